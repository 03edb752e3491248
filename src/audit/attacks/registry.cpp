#include <array>

#include "audit/attacks/attacks.h"

namespace tempo::audit {

std::span<const Attack> attacks() {
  static const std::array kAll = {
      kEquilibrateAndMatch,  kDirectionMatch,      kKernelCosine,       kScalarRatio,
      kProcrustes,           kScaleCancellation,   kZeroPattern,        kIntegerScales,
      kLabelClusters,        kStructureAnchors,    kKeyLinking,         kBlindSourceSeparation,
      kGramAlignment,        kCandidateDictionary, kLayerLinking,       kImageLayout,
      kNetworkLinking,       kFirstLayer,          kStolenNetwork,      kKeySearch,
      kJointDiagonalisation, kResidualStream,      kTwoSidedSeparation, kKnownFirstLayer,
      kScaleInvariance,      kObliqueLinking,      kKeyPeeling,
  };
  return kAll;
}

}  // namespace tempo::audit
