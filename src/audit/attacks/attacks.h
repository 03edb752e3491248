/// The attacks on one layer. Each is described in its own file.
#pragma once

#include <vector>

#include "audit/attack.h"

namespace tempo::audit {

extern const Attack kEquilibrateAndMatch;    // 01
extern const Attack kDirectionMatch;         // 02
extern const Attack kKernelCosine;           // 03
extern const Attack kScalarRatio;            // 04
extern const Attack kProcrustes;             // 05
extern const Attack kScaleCancellation;      // 06
extern const Attack kZeroPattern;            // 07
extern const Attack kIntegerScales;          // 08
extern const Attack kLabelClusters;          // 09
extern const Attack kStructureAnchors;       // 10
extern const Attack kKeyLinking;             // 11
extern const Attack kBlindSourceSeparation;  // 12
extern const Attack kGramAlignment;          // 13
extern const Attack kCandidateDictionary;    // 14
extern const Attack kLayerLinking;           // 15
extern const Attack kImageLayout;            // 17
extern const Attack kNetworkLinking;         // 18
extern const Attack kFirstLayer;             // 19
extern const Attack kStolenNetwork;          // 20
extern const Attack kKeySearch;              // 21
extern const Attack kJointDiagonalisation;   // 22
extern const Attack kResidualStream;         // 23
extern const Attack kTwoSidedSeparation;     // 24
extern const Attack kKnownFirstLayer;        // 25
extern const Attack kScaleInvariance;        // 26
extern const Attack kObliqueLinking;         // 27
extern const Attack kKeyPeeling;             // 28

}  // namespace tempo::audit
