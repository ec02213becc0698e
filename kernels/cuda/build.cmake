# The CUDA back-end and the two forms it takes:
#   tessera_gpu         an interface: what every program links, nvcc's kernels or none.cpp
#   tessera_cuda_host   its host code, which links with nvcc's kernels or the emulator's
# The emulator's form is in tests/cuda/CMakeLists.txt.
file(GLOB_RECURSE TESSERA_CUDA_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
file(GLOB_RECURSE cuda_host CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cpp)
list(FILTER cuda_host INCLUDE REGEX "/cuda/|/cuda[^/]*[.]cpp$")
add_library(tessera_gpu INTERFACE)

if(TESSERA_CUDA_HEADERS)
  add_library(tessera_cuda_host OBJECT ${cuda_host} engine/device/cuda/choice.cpp engine/device/cuda/device.cpp engine/device/cuda/host_step.cpp engine/device/cuda/updates.cpp engine/device/cuda/uploads.cpp)
  target_link_libraries(tessera_cuda_host PUBLIC tessera_engine ${CMAKE_DL_LIBS})
  target_include_directories(tessera_cuda_host SYSTEM PUBLIC ${TESSERA_CUDA_HEADERS})
endif()

if(TESSERA_CUDA)
  function(tessera_compile_kernels target)
    add_library(${target} OBJECT ${ARGN})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
    # A spill is a bug here: it costs more than any tile gains. -lineinfo serves ncu and the sanitizer.
    # Compressed kernels are a quarter of the size and unpacked when first launched.
    target_compile_options(${target} PRIVATE -lineinfo
                           $<$<VERSION_GREATER_EQUAL:${CMAKE_CUDA_COMPILER_VERSION},12.8>:--compress-mode=size>
                           "SHELL:-Xptxas --warn-on-spills,--warning-as-error")
  endfunction()
  tessera_compile_kernels(tessera_cuda_kernels ${TESSERA_CUDA_KERNELS})
  # Whether a GPU may be given what only sm_90a can run.
  if("${CMAKE_CUDA_ARCHITECTURES}" MATCHES "90a")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/kernels/ops/conv/sm90_wgmma.cu PROPERTIES COMPILE_DEFINITIONS TESSERA_SM90A)
  endif()
  # Every feature of the kernel language: what holds the emulator's rules against a GPU.
  tessera_compile_kernels(tessera_cuda_features ${PROJECT_SOURCE_DIR}/tests/simt/features.cu)
  set_target_properties(tessera_cuda_features PROPERTIES EXCLUDE_FROM_ALL ON)
  # LINK_ONLY: no path of the toolkit reaches other files, so adding CUDA to a build compiles none anew.
  target_link_libraries(tessera_gpu INTERFACE $<LINK_ONLY:CUDA::cudart_static>)
  target_sources(tessera_gpu INTERFACE $<TARGET_OBJECTS:tessera_cuda_host>
                                       $<TARGET_OBJECTS:tessera_cuda_kernels>)
else()
  add_library(tessera_no_cuda OBJECT engine/device/cuda/none.cpp)
  target_link_libraries(tessera_no_cuda PUBLIC tessera_engine)
  target_sources(tessera_gpu INTERFACE $<TARGET_OBJECTS:tessera_no_cuda>)
endif()
