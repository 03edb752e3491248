/// Attack 16: a worker that adds error to every result, small enough that nothing notices.
///
/// Needs: to be the worker. Algorithm: every result gets an error of a stated size relative to its Frobenius norm,
/// always along one direction that is fixed for the shape, so that errors add up from step to step. Source: the
/// project's brief; compare Blanchard et al. (2017) on Byzantine workers. Success: what the trained model loses. Level
/// of chance: the same training with an honest worker, under another blinding key (its rounding differs). Tempo 0.1
/// verifies nothing (`--integrity off`), so no size of error is refused. The table says which tolerance a check would
/// have to have.
#pragma once

#include <memory>
#include <vector>

#include "audit/results.h"
#include "audit/victim.h"

namespace tempo::audit {

/// A worker whose every activation, gradient and (by way of its gradient) resident weight is wrong by
/// `relative_error` times its norm.
std::shared_ptr<contract::Worker> make_tampering_worker(std::shared_ptr<contract::Worker> honest,
                                                        double relative_error);

/// Trains from `start` with each error, `steps` long.
std::vector<TamperingResult> measure_tampering(const VictimOptions& options, const State& start,
                                               const train::DataSplits& data, const Setting& setting, int64_t steps,
                                               const std::vector<double>& relative_errors);

}  // namespace tempo::audit
