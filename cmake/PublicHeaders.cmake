# Each public header compiles on its own: one translation unit per header, without any precompiled header.
file(GLOB TEMPO_PUBLIC_HEADERS RELATIVE ${CMAKE_SOURCE_DIR}/include CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/tempo/*.h)
set(sources)
foreach(header ${TEMPO_PUBLIC_HEADERS})
  string(MAKE_C_IDENTIFIER ${header} name)
  set(source ${CMAKE_BINARY_DIR}/public_headers/${name}.cpp)
  file(GENERATE OUTPUT ${source} CONTENT "#include \"${header}\"\n#include \"${header}\"  // and only once\n")
  list(APPEND sources ${source})
endforeach()
add_library(public_headers OBJECT EXCLUDE_FROM_ALL ${sources})
set_target_properties(public_headers PROPERTIES UNITY_BUILD OFF)  # alone, each
target_link_libraries(public_headers PRIVATE tempo_flags)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/tempo DESTINATION include)
