# Compiler settings and the helpers by which every target of the project is made.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")  # kernels ask for more: tempo_kernels

option(TEMPO_UNITY "Compile sources in batches: half the CPU time for a clean build, more for a small change" OFF)
if(TEMPO_UNITY)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
  # It takes a .cpp within a batch for a header, where a class must not hold what is in an anonymous namespace.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()

find_program(TEMPO_CCACHE ccache)
if(TEMPO_CCACHE)
  # Another checkout finds what this one compiled, and what uses the precompiled header is cached, too (ccache's manual,
  # "Precompiled headers").
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_PCH_EXTSUM=1 ${TEMPO_CCACHE})
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()

# GNU ld takes fifteen times as long to link a program with LibTorch.
include(CheckLinkerFlag)
foreach(linker lld gold)
  check_linker_flag(CXX -fuse-ld=${linker} TEMPO_HAS_${linker})
  if(TEMPO_HAS_${linker})
    add_link_options(-fuse-ld=${linker})
    break()
  endif()
endforeach()

add_library(tempo_flags INTERFACE)
target_compile_options(tempo_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror=return-type)
target_include_directories(tempo_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
if(TEMPO_SANITIZE)
  # What a sanitizer finds ends the program: otherwise a run with findings exits with 0, like a clean one.
  target_compile_options(tempo_flags INTERFACE -fsanitize=${TEMPO_SANITIZE} -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(tempo_flags INTERFACE -fsanitize=${TEMPO_SANITIZE})
endif()

if(TEMPO_FUZZ)
  # The fuzzer sees which branches of a parser an input takes: the parsers are in the libraries, not in the targets.
  target_compile_options(tempo_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(tempo_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# tempo_library(NAME SOURCES ... LINK ...): a static library, one per folder of src/.
function(tempo_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC tempo_flags ${ARG_LINK})
endfunction()

# Sources of kernels, where the time of a run goes: each compiled alone, as Highway's dispatch wants it, and with -O3, which
# moving rows gains a third by.
function(tempo_kernels)
  set_property(SOURCE ${ARGN} PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS $<$<CONFIG:Release>:-O3>)
endfunction()

# What LibTorch's flags define: the header of the tests serves those that link LibTorch and those that do not.
function(tempo_fit_test_header name)
  target_compile_definitions(${name} PRIVATE _GLIBCXX_USE_CXX11_ABI=1)
  if(TEMPO_TORCH)
    target_link_libraries(${name} PRIVATE OpenMP::OpenMP_CXX)
  endif()
endfunction()

# What nearly every test includes. Its users are compiled with -fPIC, as it is: otherwise it would be parsed again.
function(tempo_make_test_header)
  file(WRITE ${CMAKE_BINARY_DIR}/pch/test_pch.cpp "// Exists to own the precompiled header of the tests.\n")
  add_library(tempo_test_pch OBJECT ${CMAKE_BINARY_DIR}/pch/test_pch.cpp)
  target_link_libraries(tempo_test_pch PRIVATE tempo_flags fmt::fmt GTest::gmock GTest::gtest)
  tempo_fit_test_header(tempo_test_pch)
  target_precompile_headers(tempo_test_pch PRIVATE <gmock/gmock.h> <gtest/gtest.h> <fmt/format.h> <filesystem>
                            <functional> <map> <span> <thread>)
endfunction()

# A library whose time no run waits for: parsers of text, pages, commands.
function(tempo_rarely_runs)
  foreach(name IN LISTS ARGN)
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endforeach()
endfunction()

# tempo_test(NAME [TORCH] SOURCES ... LINK ... [TIMEOUT seconds]): one GoogleTest program, run by ctest as one test.
# TORCH: its sources include LibTorch.
function(tempo_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  if(ARG_TORCH)
    tempo_use_torch(${name})
  else()
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIC)
    target_precompile_headers(${name} REUSE_FROM tempo_test_pch)
    tempo_fit_test_header(${name})
  endif()
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)  # tests spend their time in the libraries
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()
