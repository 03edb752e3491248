# LibTorch: Debian's libtorch-dev by default, any 2.x through CMAKE_PREFIX_PATH.
find_package(Torch REQUIRED)
if(TORCH_CXX_FLAGS MATCHES "CXX11_ABI=0")
  message(FATAL_ERROR "LibTorch ${Torch_VERSION} was built with the old C++ ABI, which Debian's libraries do not have; "
                      "expected a cxx11-abi build (pip wheels: 2.7 and later)")
endif()

add_library(tempo_torch INTERFACE)
target_link_libraries(tempo_torch INTERFACE ${TORCH_LIBRARIES})
target_include_directories(tempo_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
separate_arguments(TEMPO_TORCH_FLAGS UNIX_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(tempo_torch INTERFACE ${TEMPO_TORCH_FLAGS})

# One precompiled header for everything that includes LibTorch: parsing it dominates the build otherwise.
file(WRITE ${CMAKE_BINARY_DIR}/pch/torch_pch.cpp "// Exists to own the precompiled LibTorch header.\n")
add_library(tempo_torch_pch OBJECT ${CMAKE_BINARY_DIR}/pch/torch_pch.cpp)
target_link_libraries(tempo_torch_pch PUBLIC tempo_flags tempo_torch)
target_precompile_headers(tempo_torch_pch PRIVATE <torch/torch.h>)

# LibTorch and its precompiled header for one target. The header was compiled with -fPIC; executables must be too, or
# it is silently parsed again.
function(tempo_use_torch name)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIC)
  target_link_libraries(${name} PUBLIC tempo_torch)
  target_precompile_headers(${name} REUSE_FROM tempo_torch_pch)
endfunction()
function(tempo_torch_library name)
  tempo_library(${name} ${ARGN})
  tempo_use_torch(${name})
endfunction()
