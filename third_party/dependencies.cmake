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
tessera_find(OpenMP OpenMP::OpenMP_CXX "libgomp1 (g++), libomp-14-dev (clang)")
tessera_find(TIFF TIFF::TIFF libtiff-dev)
tessera_find(JPEG JPEG::JPEG libjpeg62-turbo-dev)
tessera_find(PNG PNG::PNG libpng-dev)
tessera_find(ZLIB ZLIB::ZLIB zlib1g-dev)

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
tessera_find_plain(stb stb/stb_image.h "" libstb-dev)

if(TESSERA_TOOLS)
  tessera_find(CLI11 CLI11::CLI11 libcli11-dev)
endif()
if(TESSERA_TESTS)
  tessera_find(GTest GTest::gmock "libgtest-dev libgmock-dev")
endif()
