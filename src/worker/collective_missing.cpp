// Stands in for sums among workers where Tempo was built with TEMPO_COLLECTIVE=OFF.
#include "tempo/error.h"
#include "worker/collective.h"

namespace tempo::worker {

std::shared_ptr<Collective> make_collective(const CollectiveOptions&) {
  throw InputError("--collective: this program was built without Gloo (TEMPO_COLLECTIVE=OFF), expected no such flag");
}

}  // namespace tempo::worker
