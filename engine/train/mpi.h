// Ranks by MPI. Its library is opened when ranks are asked for, so that nobody else needs one: Open
// MPI 3 to 5, whose binary interface the library's name stands for.
#pragma once

#include <string>

#include "engine/train/ranks.h"

namespace tessera {

// Which processes train together:
//   "none"  this one alone
//   "mpi"   those that mpirun started with this one
//   "auto"  the latter where mpirun, or srun with PMIx, started more than one
// Throws Error for another name; for processes of an MPI that is not Open MPI; where the library is
// missing, with the package's name.
std::shared_ptr<Ranks> open_ranks(const std::string& name,
                                  const std::string& library = "libmpi.so.40");

}  // namespace tessera
