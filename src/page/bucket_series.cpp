#include "page/bucket_series.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace tempo::page {
namespace {

/// JSON has no NaN and no infinity.
void append(std::string& out, double value) {
  if (std::isfinite(value))
    fmt::format_to(std::back_inserter(out), "{:.7g}", value);
  else
    out += "null";
}

}  // namespace

void BucketSeries::Cell::take(const Cell& other) {
  if (other.count == 0) return;
  least = count == 0 ? other.least : std::min(least, other.least);
  greatest = count == 0 ? other.greatest : std::max(greatest, other.greatest);
  sum += other.sum;
  count += other.count;
}

void BucketSeries::add(int64_t step, std::span<const double> values) {
  const int64_t number = step / width_;
  if (buckets_.empty() || buckets_.back().number != number) {
    buckets_.push_back({.number = number, .last = step, .cells = std::vector<Cell>(fields_.size())});
    while (buckets_.size() > kMostBuckets) halve();
  }
  Bucket& bucket = buckets_.back();
  bucket.last = step;
  for (size_t i = 0; i < fields_.size(); ++i)
    if (!std::isnan(values[i]))
      bucket.cells[i].take({.sum = values[i], .least = values[i], .greatest = values[i], .count = 1});
}

void BucketSeries::halve() {
  ++changes_;
  width_ *= 2;
  std::vector<Bucket> merged;
  for (Bucket& bucket : buckets_) {
    bucket.number /= 2;
    if (merged.empty() || merged.back().number != bucket.number) {
      merged.push_back(std::move(bucket));
      continue;
    }
    merged.back().last = bucket.last;
    for (size_t i = 0; i < fields_.size(); ++i) merged.back().cells[i].take(bucket.cells[i]);
  }
  buckets_ = std::move(merged);
}

void BucketSeries::cut(int64_t step) {
  ++changes_;
  while (!buckets_.empty() && buckets_.back().number > step / width_) buckets_.pop_back();
  if (!buckets_.empty()) buckets_.back().last = std::min(buckets_.back().last, step);
}

std::string BucketSeries::to_json(size_t from) const {
  from = std::min(from, buckets_.size());
  std::string out = fmt::format("{{\"width\":{},\"from\":{},\"step\":[", width_, from);
  const auto list = [&](auto append_value) {
    for (size_t i = from; i < buckets_.size(); ++i) {
      if (i > from) out += ',';
      append_value(buckets_[i]);
    }
    out += ']';
  };
  list([&](const Bucket& bucket) { out += fmt::to_string(bucket.last); });
  out += ",\"columns\":{";
  std::string totals;
  for (size_t field = 0; field < fields_.size(); ++field) {
    double total = 0;
    int64_t count = 0;
    for (const Bucket& bucket : buckets_) {
      total += bucket.cells[field].sum;
      count += bucket.cells[field].count;
    }
    if (count == 0) continue;
    const auto column = [&](const char* name, auto value_of) {
      out += fmt::format("\"{}\":[", name);
      list([&](const Bucket& bucket) {
        const Cell& cell = bucket.cells[field];
        append(out, cell.count > 0 ? value_of(cell) : std::nan(""));
      });
    };
    out += fmt::format("{}\"{}\":{{", totals.empty() ? "" : ",", fields_[field]);
    column("mean", [](const Cell& cell) { return cell.sum / static_cast<double>(cell.count); });
    if (width_ > 1) {
      out += ',';
      column("least", [](const Cell& cell) { return cell.least; });
      out += ',';
      column("greatest", [](const Cell& cell) { return cell.greatest; });
    }
    out += '}';
    totals += fmt::format("{}\"{}\":", totals.empty() ? "" : ",", fields_[field]);
    append(totals, total);
  }
  return out + "},\"totals\":{" + totals + "}}";
}

}  // namespace tempo::page
