#include "common/suggestion.h"

#include <algorithm>

namespace tempo::apps {
namespace {

/// Optimal string alignment distance: Levenshtein's, and a swap of neighbours counts as one.
size_t distance_between(std::string_view a, std::string_view b) {
  std::vector<size_t> two_ago, previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({change, previous[j] + 1, current[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        current[j] = std::min(current[j], two_ago[j - 2] + 1);
    }
    two_ago = previous;
    previous = current;
  }
  return previous[b.size()];
}

}  // namespace

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 64, kMostChanges = 3;
  if (word.size() > kLongest) return {};
  std::string nearest;
  size_t least = kMostChanges + 1;
  for (const auto& candidate : candidates) {
    const size_t distance = distance_between(word, candidate);
    if (distance < least && 3 * distance <= std::max(word.size(), candidate.size())) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_word(word, candidates);
  return nearest.empty() ? std::string() : "; did you mean " + nearest + "?";
}

}  // namespace tempo::apps
