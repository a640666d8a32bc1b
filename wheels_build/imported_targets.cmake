# Loaded with -DCMAKE_PROJECT_INCLUDE=... when ROS 2 comes from PyPI wheels.
#
# The targets that the wheels export name include directories of the machine that built the wheels
# (its Python and NumPy headers). CMake refuses imported targets with missing directories, so drop
# those once the project has found its packages. A real ROS 2 install has none.

function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(existing "")
    foreach(directory IN LISTS directories)
      # Generator expressions and relative paths are not ours to judge.
      if(NOT IS_ABSOLUTE "${directory}" OR EXISTS "${directory}")
        list(APPEND existing "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()

cmake_language(DEFER CALL drop_missing_include_directories)
