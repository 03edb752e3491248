# The library comes from pkg-config: a LibTorch of its own making brings an empty target by the name of CMake's.
find_package(Protobuf REQUIRED)
pkg_check_modules(PROTOBUF REQUIRED IMPORTED_TARGET protobuf)
# Only -DNOMINMAX, for Windows: with it LibTorch's precompiled header does not fit, and is silently parsed again.
set_target_properties(PkgConfig::PROTOBUF PROPERTIES INTERFACE_COMPILE_OPTIONS "")

# tempo_protobuf_library(NAME PROTO): messages of a file under proto/, generated.
function(tempo_protobuf_library name proto)
  set(source ${CMAKE_SOURCE_DIR}/proto/${proto}.proto)
  set(generated ${CMAKE_BINARY_DIR}/proto/${proto}.pb)
  add_custom_command(OUTPUT ${generated}.cc ${generated}.h
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/proto
    COMMAND protobuf::protoc --proto_path=${CMAKE_SOURCE_DIR}/proto --cpp_out=${CMAKE_BINARY_DIR}/proto ${source}
    DEPENDS ${source} VERBATIM)
  add_library(${name} STATIC ${generated}.cc ${generated}.h)
  target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/proto)
  target_link_libraries(${name} PUBLIC PkgConfig::PROTOBUF)
endfunction()
