# Files that become part of a program, byte for byte.
set(TEMPO_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/embed_file.cmake)

# tempo_embed(TARGET HEADER NAMESPACE FUNCTION FILE [FUNCTION FILE ...]): defines each `std::string_view NAMESPACE::FUNCTION()`,
# which HEADER declares.
function(tempo_embed target header namespace)
  set(pairs ${ARGN})
  while(pairs)
    list(POP_FRONT pairs function file)
    cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    set(made ${CMAKE_CURRENT_BINARY_DIR}/embedded/${function}.cpp)
    add_custom_command(OUTPUT ${made}
      COMMAND ${CMAKE_COMMAND} -DIN=${file} -DOUT=${made} -DHEADER=${header} -DNAMESPACE=${namespace}
              -DFUNCTION=${function} -P ${TEMPO_EMBED_SCRIPT}
      DEPENDS ${file} ${TEMPO_EMBED_SCRIPT} VERBATIM)
    set_source_files_properties(${made} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    target_sources(${target} PRIVATE ${made})
  endwhile()
endfunction()
