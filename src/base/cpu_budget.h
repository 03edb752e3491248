/// Which CPUs a run may use.
#pragma once

namespace tempo {

/// Keeps the calling thread, and all threads it starts from now on, to `count` of the CPUs it may use: the one it runs
/// on, where the system found room for it, and those after it. Does nothing where it may use no more than that.
/// @returns the number of CPUs it is kept to; 0 if the system does not let it choose, which is no error: the threads
/// then move as before.
int keep_to_cpus(int count);

}  // namespace tempo
