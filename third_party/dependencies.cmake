# Finds the libraries Tessera rests on. Each is a Debian package; a missing one stops the
# configuration with the package's name.

function(tessera_missing what package)
  message(FATAL_ERROR "${what} not found. Install it:  apt-get install ${package}\n"
                      "(tools/setup.sh installs everything that the build needs)")
endfunction()

# tessera_find(<CMake package> <target it must define> <Debian package>)
macro(tessera_find name target package)
  find_package(${name} QUIET)
  if(NOT TARGET ${target})
    tessera_missing(${name} ${package})
  endif()
endmacro()

tessera_find(fmt fmt::fmt libfmt-dev)
tessera_find(nlohmann_json nlohmann_json::nlohmann_json nlohmann-json3-dev)
find_package(Threads REQUIRED)  # of the C library
tessera_find(TIFF TIFF::TIFF libtiff-dev)
tessera_find(EXPAT EXPAT::EXPAT libexpat1-dev)
tessera_find(JPEG JPEG::JPEG libjpeg62-turbo-dev)
tessera_find(PNG PNG::PNG libpng-dev)
tessera_find(ZLIB ZLIB::ZLIB zlib1g-dev)
tessera_find(BZip2 BZip2::BZip2 libbz2-dev)
tessera_find(LibLZMA LibLZMA::LibLZMA liblzma-dev)

# ONNX's file format: its own description, and the compiler and library of such descriptions, of
# which the program needs the small half alone.
find_path(ONNX_PROTO_FOLDER onnx/onnx.proto)
if(NOT ONNX_PROTO_FOLDER)
  tessera_missing("onnx/onnx.proto" libonnx-dev)
endif()
find_package(Protobuf QUIET)
if(NOT TARGET protobuf::libprotobuf-lite)
  tessera_missing("protobuf" libprotobuf-dev)
endif()
if(NOT PROTOBUF_PROTOC_EXECUTABLE AND NOT Protobuf_PROTOC_EXECUTABLE)
  tessera_missing("protoc" protobuf-compiler)
endif()
add_custom_command(
  OUTPUT ${PROJECT_BINARY_DIR}/onnx/onnx.pb.cc ${PROJECT_BINARY_DIR}/onnx/onnx.pb.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/onnx
  COMMAND ${Protobuf_PROTOC_EXECUTABLE} --cpp_out=${PROJECT_BINARY_DIR}/onnx -I${ONNX_PROTO_FOLDER}/onnx
          ${ONNX_PROTO_FOLDER}/onnx/onnx.proto
  DEPENDS ${ONNX_PROTO_FOLDER}/onnx/onnx.proto VERBATIM)
add_library(onnx_format STATIC ${PROJECT_BINARY_DIR}/onnx/onnx.pb.cc ${PROJECT_BINARY_DIR}/onnx/onnx.pb.h)
target_include_directories(onnx_format SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/onnx)
target_link_libraries(onnx_format PUBLIC protobuf::libprotobuf-lite)

# Header and library found as they are: Debian 12 has no CMake package of them.
function(tessera_find_plain target header library package)
  find_path(${target}_INCLUDE ${header})
  set(found ${${target}_INCLUDE})
  if(library)
    find_library(${target}_LIBRARY ${library})
    if(NOT ${target}_LIBRARY)
      set(found FALSE)
    endif()
  endif()
  if(NOT found)
    tessera_missing(${header} ${package})
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  if(library)
    target_link_libraries(${target} INTERFACE ${${target}_LIBRARY})
  endif()
endfunction()

tessera_find_plain(highway hwy/highway.h hwy libhwy-dev)
tessera_find_plain(utf8proc utf8proc.h utf8proc libutf8proc-dev)
tessera_find_plain(zstd zstd.h zstd libzstd-dev)
tessera_find_plain(blosc blosc.h blosc libblosc-dev)
tessera_find_plain(xxhash xxhash.h xxhash libxxhash-dev)
tessera_find_plain(stb stb/stb_image.h "" libstb-dev)
tessera_find_plain(yaml_cpp yaml-cpp/yaml.h yaml-cpp libyaml-cpp-dev)
tessera_find_plain(nettle nettle/sha2.h nettle nettle-dev)

# HDF5 is for Keras' files alone. It is loaded when one is opened (models/import/hdf5.h), so that only
# its header is needed here: without it, opening one says which package to install.
find_path(TESSERA_HDF5_INCLUDE hdf5.h PATH_SUFFIXES hdf5/serial)
find_library(TESSERA_HDF5_FILE NAMES hdf5_serial hdf5)
if(TESSERA_HDF5_INCLUDE AND TESSERA_HDF5_FILE)
  file(REAL_PATH ${TESSERA_HDF5_FILE} hdf5_file)
  get_filename_component(hdf5_file ${hdf5_file} NAME)
  string(REGEX REPLACE "(.*[.]so[.][0-9]+).*" "\\1" TESSERA_HDF5_LIBRARY ${hdf5_file})  # its soname
else()
  message(STATUS "No HDF5 (libhdf5-dev): this build reads no Keras files")
endif()

# The CUDA toolkit. TESSERA_CUDA becomes ON or OFF: whether kernels are compiled for a GPU. Its headers
# alone, TESSERA_CUDA_HEADERS, suffice for the emulator that the tests run kernels on.
if(NOT TESSERA_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TESSERA_CUDA ON)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # Ampere and, by its PTX, all that come after; Hopper with its own instructions.
      set(CMAKE_CUDA_ARCHITECTURES "80;90a-real")
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 knows nvcc's dialects up to C++17
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
  elseif(TESSERA_CUDA STREQUAL "ON")
    tessera_missing("nvcc" "nvidia-cuda-toolkit, or NVIDIA's own cuda-toolkit")
  else()
    message(STATUS "No nvcc: building for the CPU alone (TESSERA_CUDA=OFF)")
    set(TESSERA_CUDA OFF)
  endif()
endif()
find_package(CUDAToolkit QUIET)
find_path(TESSERA_CUDA_HEADERS cuda_runtime.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT TESSERA_CUDA_HEADERS)
  message(STATUS "No CUDA headers: the CUDA kernels are not tested here")
endif()

if(TESSERA_TOOLS)
  tessera_find(CLI11 CLI11::CLI11 libcli11-dev)
endif()
if(TESSERA_TESTS)
  tessera_find(GTest GTest::gmock "libgtest-dev libgmock-dev")
endif()
