/// The word that somebody meant, where another one stands.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tempo::apps {

/// @returns the candidate nearest to `word`, by letters changed, added, left out or swapped; nothing if none is near:
/// more than a third of the longer word's letters differ, or more than three.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

/// "; did you mean CANDIDATE?", or nothing.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace tempo::apps
