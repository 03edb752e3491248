# LibTorch: Debian's libtorch-dev by default, any 2.x through CMAKE_PREFIX_PATH.
find_package(Torch REQUIRED)
if(TORCH_CXX_FLAGS MATCHES "CXX11_ABI=0")
  message(FATAL_ERROR "LibTorch ${Torch_VERSION} was built with the old C++ ABI, which Debian's libraries do not have; "
                      "expected a cxx11-abi build (pip wheels: 2.7 and later)")
endif()

# at::parallel_for is a plain loop in code that is compiled without.
find_package(OpenMP REQUIRED COMPONENTS CXX)

add_library(tempo_torch INTERFACE)
target_link_libraries(tempo_torch INTERFACE ${TORCH_LIBRARIES} OpenMP::OpenMP_CXX)
target_include_directories(tempo_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
# LibTorch's wheels carry parts of another standard library, std::filesystem's among them, which would stand in for those
# of the one that programs are compiled with: that one comes first.
target_link_options(tempo_torch INTERFACE "LINKER:--push-state,--no-as-needed,-lstdc++,--pop-state")
separate_arguments(TEMPO_TORCH_FLAGS UNIX_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(tempo_torch INTERFACE ${TEMPO_TORCH_FLAGS})

# One precompiled header for everything that includes LibTorch. It holds what most of those files ask for, and not
# <torch/torch.h>: every file pays for what lies in it, at 10 s of CPU time instead of 5.
file(WRITE ${CMAKE_BINARY_DIR}/pch/torch_pch.cpp "// Exists to own the precompiled LibTorch header.\n")
add_library(tempo_torch_pch OBJECT ${CMAKE_BINARY_DIR}/pch/torch_pch.cpp)
target_link_libraries(tempo_torch_pch PUBLIC tempo_flags tempo_torch)
target_precompile_headers(tempo_torch_pch PRIVATE <torch/types.h> <torch/utils.h> <torch/nn/module.h>
                          <torch/csrc/autograd/custom_function.h>)

# Whether a file includes LibTorch, itself or through headers of ours. Found out once a configuration: a wrong answer costs
# time, nothing else.
function(tempo_includes_torch file result)
  string(MD5 key ${file})
  get_property(known GLOBAL PROPERTY TEMPO_INCLUDES_TORCH_${key} SET)
  if(NOT known)
    set_property(GLOBAL PROPERTY TEMPO_INCLUDES_TORCH_${key} OFF)  # headers that include each other end here
    set(found OFF)
    file(STRINGS ${file} includes REGEX "^#include ")
    get_filename_component(folder ${file} DIRECTORY)
    foreach(line IN LISTS includes)
      if(line MATCHES "<(torch|ATen)/")
        set(found ON)
      elseif(line MATCHES "\"(.+)\"")
        set(name ${CMAKE_MATCH_1})
        foreach(base ${folder} ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/apps)
          if(NOT found AND EXISTS ${base}/${name})
            tempo_includes_torch(${base}/${name} found)
          endif()
        endforeach()
      endif()
    endforeach()
    set_property(GLOBAL PROPERTY TEMPO_INCLUDES_TORCH_${key} ${found})
  endif()
  get_property(answer GLOBAL PROPERTY TEMPO_INCLUDES_TORCH_${key})
  set(${result} ${answer} PARENT_SCOPE)
endfunction()

# LibTorch and its precompiled header for one target. The header was compiled with -fPIC; executables must be too, or
# it is silently parsed again. Sources that do without LibTorch are spared it: reading it takes longer than compiling most
# of them.
function(tempo_use_torch name)
  target_link_libraries(${name} PUBLIC tempo_torch)
  set(any_needs_torch OFF)
  get_target_property(sources ${name} SOURCES)
  foreach(source IN LISTS sources)
    get_filename_component(path ${source} ABSOLUTE)
    tempo_includes_torch(${path} needs_torch)
    if(needs_torch)
      set(any_needs_torch ON)
    else()
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
  if(any_needs_torch)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIC)
    target_precompile_headers(${name} REUSE_FROM tempo_torch_pch)
  endif()
endfunction()

# A library some of whose sources include LibTorch: those that do without are a part of their own, so that no batch of
# sources mixes the two.
function(tempo_torch_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  set(torch_sources)
  set(plain_sources)
  foreach(source IN LISTS ARG_SOURCES)
    get_filename_component(path ${source} ABSOLUTE)
    tempo_includes_torch(${path} needs_torch)
    if(needs_torch)
      list(APPEND torch_sources ${source})
    else()
      list(APPEND plain_sources ${source})
    endif()
  endforeach()
  if(NOT torch_sources)
    tempo_library(${name} ${ARGN})
    target_link_libraries(${name} PUBLIC tempo_torch)
    return()
  endif()
  tempo_library(${name} SOURCES ${torch_sources} LINK ${ARG_LINK})
  tempo_use_torch(${name})
  if(plain_sources)
    add_library(${name}_plain OBJECT ${plain_sources})
    target_link_libraries(${name}_plain PRIVATE tempo_flags tempo_torch ${ARG_LINK})
    target_include_directories(${name}_plain PRIVATE $<TARGET_PROPERTY:${name},INCLUDE_DIRECTORIES>)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:${name}_plain>)
  endif()
endfunction()
