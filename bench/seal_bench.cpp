// How fast sealed archives are written and read in memory, beside libsodium alone and memcpy in the same run.
//   MB/s           plaintext bytes per second: of CPU time on one thread, so that a busy machine disturbs less; else of
//                  wall time
//   of_libsodium   the same over that of one secretstream over the same bytes, in chunks of the same size, on one
//   thread of_memcpy      over that of memcpy
// The yardsticks run between the iterations. Every result is compared with the plaintext before and after it is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "base/csprng.h"
#include "base/thread_pool.h"
#include "benches.h"
#include "seal/archive_format.h"
#include "seal/sealed_archive.h"

namespace {

using namespace tempo;
using namespace tempo::seal;

using Bytes = std::vector<std::byte>;

constexpr size_t kChunks = 512;  // 32 MiB: larger than most caches
constexpr size_t kRecordBytes = 3073;

double now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// An archive of one file, made chunk by chunk as the writer does.
class Fixture {
 public:
  explicit Fixture(int threads) : clock_(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC), threads_(threads) {
    Csprng(key_from_seed_insecure(2)).fill(plain_);
    const auto table = encode_table(table_);
    std::copy(table.begin(), table.end(), plain_.begin());
    const auto head = header_.encode();
    std::copy(head.begin(), head.end(), sealed_.begin());
  }

  void seal() {
    threads_.parallel_for(kChunks, 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) cipher_.seal(i, plain_chunk(plain_, i), sealed_chunk(i));
    });
  }
  [[nodiscard]] SealedArchive open() const { return {sealed_, "bench", key_}; }
  void read(const SealedArchive& archive) {
    archive.read(archive.entries()[0], 0, std::span(read_).subspan(table_.table_bytes), &threads_);
  }
  /// Whether what was read is what was sealed.
  [[nodiscard]] bool is_right() const {
    return std::equal(read_.begin() + static_cast<ptrdiff_t>(table_.table_bytes), read_.end(),
                      plain_.begin() + static_cast<ptrdiff_t>(table_.table_bytes));
  }
  void clear() { std::fill(read_.begin(), read_.end(), std::byte{0}); }

  [[nodiscard]] double libsodium_seal_seconds() {
    return seconds_of([this] {
      std::array<std::byte, kStreamHeaderBytes> header{};
      SecretStream stream(key_, std::span(header));
      for (size_t i = 0; i < kChunks; ++i)
        stream.push(plain_chunk(plain_, i), {}, kMessageTag,
                    std::span(copy_).subspan(i * (kArchiveChunkBytes + kTagBytes), kArchiveChunkBytes + kTagBytes));
      std::copy(header.begin(), header.end(), stream_header_.begin());
    });
  }
  /// Works on what the last call of the above left.
  [[nodiscard]] double libsodium_open_seconds() {
    bool is_authentic = true;
    const double seconds = seconds_of([&] {
      SecretStream stream(key_, std::span<const std::byte, kStreamHeaderBytes>(stream_header_));
      for (size_t i = 0; i < kChunks; ++i)
        is_authentic &=
            stream
                .pull(std::span(copy_).subspan(i * (kArchiveChunkBytes + kTagBytes), kArchiveChunkBytes + kTagBytes),
                      {}, plain_chunk(opened_, i))
                .has_value();
    });
    return is_authentic && opened_ == plain_ ? seconds : 0;
  }
  [[nodiscard]] double memcpy_seconds() {
    return seconds_of([this] {
      std::memcpy(opened_.data(), plain_.data(), plain_.size());
      benchmark::DoNotOptimize(opened_.data());
      benchmark::ClobberMemory();
    });
  }
  [[nodiscard]] static double bytes() { return static_cast<double>(kChunks * kArchiveChunkBytes); }

  template <typename Work>
  [[nodiscard]] double seconds_of(const Work& work) const {
    const double start = now(clock_);
    work();
    return now(clock_) - start;
  }

 private:
  static std::span<std::byte> plain_chunk(Bytes& bytes, size_t i) {
    return std::span(bytes).subspan(i * kArchiveChunkBytes, kArchiveChunkBytes);
  }
  std::span<std::byte> sealed_chunk(size_t i) {
    return std::span(sealed_).subspan(kArchiveHeaderBytes + i * kSealedChunkBytes, kSealedChunkBytes);
  }

  const clockid_t clock_;
  ThreadPool threads_;
  const SecretKey key_ = key_from_seed_insecure(1);
  const ArchiveTable table_ =
      make_table({{.path = "d", .bytes = kChunks * kArchiveChunkBytes - make_table({{.path = "d"}}).table_bytes}});
  const ArchiveHeader header_ = ArchiveHeader::fresh(key_, kChunks);
  const ArchiveCipher cipher_{key_, header_};
  Bytes plain_ = Bytes(kChunks * kArchiveChunkBytes), read_ = plain_, opened_ = plain_;
  Bytes sealed_ = Bytes(header_.file_bytes()), copy_ = Bytes(kChunks * (kArchiveChunkBytes + kTagBytes));
  std::array<std::byte, kStreamHeaderBytes> stream_header_{};
};

void report(benchmark::State& state, double seconds, double libsodium, double copy) {
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["MB/s"] = Fixture::bytes() * iterations / seconds * 1e-6;
  state.counters["libsodium_MB/s"] = Fixture::bytes() * iterations / libsodium * 1e-6;
  state.counters["of_libsodium"] = libsodium / seconds;
  state.counters["of_memcpy"] = copy / seconds;
}

void seal_bench(benchmark::State& state, int threads) {
  Fixture fixture(threads);
  double seconds = 0, libsodium = 0, copy = 0;
  fixture.seal();
  for (auto _ : state) {
    const double taken = fixture.seconds_of([&] { fixture.seal(); });
    state.SetIterationTime(taken);
    seconds += taken;
    libsodium += fixture.libsodium_seal_seconds();
    copy += fixture.memcpy_seconds();
  }
  fixture.read(fixture.open());
  if (!fixture.is_right()) return state.SkipWithError("what was sealed is not what opens: timing discarded");
  report(state, seconds, libsodium, copy);
}

void open_bench(benchmark::State& state, int threads) {
  Fixture fixture(threads);
  fixture.seal();
  const SealedArchive archive = fixture.open();
  double seconds = 0, libsodium = 0, copy = 0;
  (void)fixture.libsodium_seal_seconds();
  for (auto _ : state) {
    fixture.clear();
    const double taken = fixture.seconds_of([&] { fixture.read(archive); });
    state.SetIterationTime(taken);
    seconds += taken;
    const double yardstick = fixture.libsodium_open_seconds();
    if (yardstick == 0 || !fixture.is_right()) return state.SkipWithError("wrong plaintext: timing discarded");
    libsodium += yardstick;
    copy += fixture.memcpy_seconds();
  }
  report(state, seconds, libsodium, copy);
}

/// A CIFAR-10 record at a random place: what random access costs.
void record_bench(benchmark::State& state) {
  Fixture fixture(1);
  fixture.seal();
  const SealedArchive archive = fixture.open();
  fixture.read(archive);
  if (!fixture.is_right()) return state.SkipWithError("wrong plaintext: timing discarded");
  const ArchiveEntry& file = archive.entries()[0];
  Csprng random(key_from_seed_insecure(3));
  Bytes record(kRecordBytes);
  for (auto _ : state) {
    archive.read(file, random.below(static_cast<uint32_t>(file.bytes - record.size())), record);
    benchmark::DoNotOptimize(record.data());
  }
}

}  // namespace

int tempo::bench::run_seal(int argc, char** argv) {
  for (const int threads : {1, 2}) {
    const std::string suffix = "/" + std::to_string(threads) + (threads == 1 ? "_thread" : "_threads");
    benchmark::RegisterBenchmark(("seal" + suffix).c_str(), seal_bench, threads)->MinTime(0.5)->UseManualTime();
    benchmark::RegisterBenchmark(("open" + suffix).c_str(), open_bench, threads)->MinTime(0.5)->UseManualTime();
  }
  benchmark::RegisterBenchmark("read_record", record_bench)->MinTime(0.5)->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
