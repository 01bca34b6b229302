# The CUDA kernels: pure .cu files with a static runtime, so that the module imports where there is
# no driver. The toolkit's own compiler goes before whatever is first on PATH, which may be a wrapper.
if(NOT GRADSPLINTER_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "GRADSPLINTER_CUDA must be AUTO, ON or OFF, got '${GRADSPLINTER_CUDA}'")
endif()
if(GRADSPLINTER_CUDA STREQUAL "OFF")
  return()
endif()

set(compiler "${CMAKE_CUDA_COMPILER}")  # asked for, or found when this folder was set up
if(NOT compiler)
  set(compiler "$ENV{CUDACXX}")
endif()
if(NOT compiler)
  find_program(GRADSPLINTER_NVCC nvcc
    HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  if(GRADSPLINTER_NVCC)
    set(compiler ${GRADSPLINTER_NVCC})
  endif()
endif()
# What the compiler says it can compile for; nothing if it does not work, or is another program.
set(known)
if(compiler)
  execute_process(COMMAND ${compiler} --list-gpu-arch
    OUTPUT_VARIABLE listed ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0)
    string(REGEX MATCHALL "compute_[0-9]+" known "${listed}")
  endif()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT "$ENV{CUDAARCHS}" STREQUAL "")
  set(CMAKE_CUDA_ARCHITECTURES "$ENV{CUDAARCHS}")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(architectures)
  foreach(architecture 80 90 100 120)
    if("compute_${architecture}" IN_LIST known)
      list(APPEND architectures ${architecture})
    endif()
  endforeach()
  if(architectures)  # PTX of the newest, for cards that come later
    list(POP_BACK architectures newest)
    list(TRANSFORM architectures APPEND "-real")
    set(CMAKE_CUDA_ARCHITECTURES ${architectures} ${newest})
  endif()
endif()
if(NOT known OR NOT CMAKE_CUDA_ARCHITECTURES)
  if(GRADSPLINTER_CUDA STREQUAL "ON")
    message(FATAL_ERROR "GRADSPLINTER_CUDA=ON, but no CUDA compiler for compute capability 8.0 or "
      "newer was found (tried '${compiler}')")
  endif()
  message(STATUS "gradsplinter: no CUDA compiler that fits, building for the CPU only")
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(ENV{CUDACXX} "${compiler}")
  # One that lists what it can compile for may still fail, as with a host compiler that is too new
  # for it. With ON, CMake's own error says how.
  if(GRADSPLINTER_CUDA STREQUAL "AUTO")
    unset(CMAKE_CUDA_COMPILER CACHE)  # the answer to the same question before
    include(CheckLanguage)
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
      message(WARNING "gradsplinter: '${compiler}' cannot compile CUDA here, building for the CPU "
        "only; GRADSPLINTER_CUDA=ON shows why")
      return()
    endif()
  endif()
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
message(STATUS "gradsplinter: CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

add_library(gradsplinter_cuda STATIC
  csrc/cuda/hash.cu csrc/cuda/signature.cu csrc/cuda/small_network.cu csrc/cuda/wide_layer.cu
  csrc/cuda/unique.cu csrc/cuda/table.cu csrc/cuda/jacobian.cu
  csrc/cuda/step_back.cu csrc/cuda/cross.cu csrc/cuda/gram.cu)
target_include_directories(gradsplinter_cuda PRIVATE csrc)
# -fmad=false: which products are fused is written in the code, as on the CPU.
# Pragmas: OpenMP's, of headers of the CPU's code, which these files do not use.
target_compile_options(gradsplinter_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas>)
set_target_properties(gradsplinter_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
# The definition says for what: "80-real 90-real 120".
list(JOIN CMAKE_CUDA_ARCHITECTURES " " architectures)
target_compile_definitions(gradsplinter_core PUBLIC "GRADSPLINTER_CUDA=\"${architectures}\"")
target_link_libraries(gradsplinter_core PUBLIC gradsplinter_cuda)
