/// A run's settings as its page shows them: what they are, and in words what they hide from workers.
#pragma once

#include <vector>

#include "page/document.h"
#include "tempo/run.h"

namespace tempo::train {

/// What the workers of a run under these settings are not sent, what they learn all the same, and what to take care of.
/// Every sentence is one of docs/threat-model.md or docs/privacy.md. @param config resolved
std::vector<page::RunView::Statement> what_workers_learn(const RunConfig& config);

/// Name, settings and statements, without history. Not among the settings: the seed, from which initial weights follow,
/// and where keys lie. @param config resolved
page::RunView view_of(const RunConfig& config);

}  // namespace tempo::train
