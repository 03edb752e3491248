// Writes the seed inputs of the fuzz targets:  make_corpus FOLDER
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.h"
#include "base/csprng.h"
#include "base/file.h"
#include "make_attest_corpus.h"
#include "seal/archive_format.h"
#include "seal/sealed_file.h"
#include "service/job_record.h"
#include "service/messages.h"
#include "train/formats/safetensors.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/shm_layout.h"

namespace {

using tempo::train::TensorEntry;
using Bytes = std::vector<std::byte>;

void save(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  tempo::AtomicFile file(path);
  file.write(text);
  file.commit();
}

void save_tensors(const std::filesystem::path& path, const std::vector<TensorEntry>& entries,
                  const tempo::train::SafetensorsMetadata& metadata) {
  std::string out;
  write_safetensors(
      [&](std::span<const std::byte> piece) { out.append(reinterpret_cast<const char*>(piece.data()), piece.size()); },
      entries, metadata);
  save(path, out);
}

void make_safetensors(const std::filesystem::path& folder) {
  const Bytes data(32, std::byte{0x3F});
  const auto first = [&](size_t bytes) { return std::span(data).first(bytes); };
  save_tensors(folder / "empty", {}, {});
  save_tensors(folder / "one", {{"w", "F32", {2, 2}, first(16)}}, {{"format", "tempo"}});
  save_tensors(folder / "types",
               {{"a", "F64", {}, first(8)},
                {"b", "I64", {1}, first(8)},
                {"c", "BF16", {3}, first(6)},
                {"d", "U8", {5}, first(5)},
                {"e", "BOOL", {0, 7}, {}}},
               {});
  save_tensors(folder / "float16", {{"a", "F16", {1}, first(2)}}, {});
  const std::string_view header("{}\0junk ", 8);  // some parsers would end at the NUL
  save(folder / "nul_and_junk", std::string("\x08\0\0\0\0\0\0\0", 8) + std::string(header));
}

void make_sealed_file(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const tempo::SecretKey key = tempo::key_from_seed_insecure(1);
  for (const size_t size : {0, 100}) {
    tempo::seal::SealedWriter writer(folder / (std::to_string(size) + "_bytes"), key, "checkpoint");
    writer.write(Bytes(size));
    writer.commit();
  }
  tempo::seal::SealedWriter other_kind(folder / "other_kind", key, "dataset");
  other_kind.commit();
}

/// As tests/fuzz/fuzz_sealed_archive.cpp reads them.
void make_sealed_archive(const std::filesystem::path& folder) {
  using namespace tempo::seal;
  const auto text = [](std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const std::string empty = text(encode_table(make_table({})));
  const std::string tree = text(encode_table(
      make_table({{.path = "a", .bytes = 5}, {.path = "b/c", .bytes = 2}, {.path = "empty", .is_folder = true}})));
  save(folder / "table_empty", std::string(1, '\0') + empty);
  save(folder / "table_tree", std::string(1, '\0') + tree);
  const auto header = ArchiveHeader::fresh(tempo::key_from_seed_insecure(1), 1).encode();
  save(folder / "header_alone", '\1' + text(header));
  save(folder / "plain_empty", '\2' + empty);
  save(folder / "plain_tree", '\2' + tree + "12345ab");
  for (const char what : {0, 1, 2, 3, 4})
    save(folder / ("change_" + std::to_string(what)), std::string({'\3', what, '\1', '\2', '\0', '\2'}));
  save(folder / "change_nothing", "\3");
}

void make_cifar(const std::filesystem::path& folder) {
  using std::string_literals::operator""s;
  save(folder / "names", "\0airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n"s);
  save(folder / "names_latin1", "\0caf\xE9\nb"s);
  save(folder / "names_windows", "\0a\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh\r\ni\r\nj"s);
  save(folder / "records", "\1\0\5\x09\0"s);
  save(folder / "cut_record", "\1\1\2\x0A"s);
  save(folder / "bad_label", "\1\1\x0A\0"s);
}

/// Header, word and ring as tests/fuzz/fuzz_shm.cpp reads them.
std::string shm_seed(uint32_t version, uint64_t operand_bytes, uint32_t written, const std::string& ring) {
  std::vector<std::byte> out;
  tempo::append_u64(out, tempo::wire::kShmMagic);
  tempo::append_u32(out, version);
  tempo::append_u32(out, 0);
  tempo::append_u64(out, tempo::wire::kMinSegmentBytes);
  tempo::append_u64(out, operand_bytes);
  tempo::append_u32(out, written);
  return std::string(reinterpret_cast<const char*>(out.data()), out.size()) + ring;
}

void make_shm(const std::filesystem::path& folder) {
  using std::string_literals::operator""s;
  constexpr uint64_t kOperandBytes = 6 << 20;
  save(folder / "empty_ring", shm_seed(1, kOperandBytes, 0, ""));
  save(folder / "two_messages", shm_seed(1, kOperandBytes, 11, "\3\0\0\0abc\0\0\0\0"s));
  save(folder / "too_long", shm_seed(1, kOperandBytes, 8, "\5\0\0\0abcd"s));
  save(folder / "beyond_the_ring", shm_seed(1, UINT64_MAX - (2 << 20) + 1, 0x80000000U, ""));
  save(folder / "other_version", shm_seed(2, kOperandBytes, 3, ""));
}

void make_messages(const std::filesystem::path& folder) {
  using namespace tempo;
  const auto text = [](const std::vector<std::byte>& bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const contract::Forward forward{.product = {.kind = contract::ProductKind::kConv2d}, .x = 1, .w = 2};
  save(folder / "hello", text(wire::encode(wire::ClientMessage(wire::Hello{.version = "0.1.0"}))));
  save(folder / "put", text(wire::encode(wire::ClientMessage(wire::Put{1, {.shape = {2, 3}}, 64}))));
  save(folder / "forward", text(wire::encode(wire::ClientMessage(wire::Submit{1, forward}))));
  save(folder / "update", text(wire::encode(wire::ClientMessage(wire::Submit{2, contract::Update{1, 2, 3, 4, 0.1}}))));
  save(folder / "join_group", text(wire::encode(wire::ClientMessage(
                                  wire::Submit{3, contract::JoinGroup{"worker.example:7000", "8f3a", 1, 2}}))));
  save(folder / "all_reduce", text(wire::encode(wire::ClientMessage(wire::Submit{4, contract::AllReduce{5}}))));
  save(folder / "welcome",
       text(wire::encode(wire::ServerMessage(wire::Welcome{1, "LibTorch", "cpu", 1 << 30, "worker.example:7000"}))));
  save(folder / "reply", text(wire::encode(wire::ServerMessage(wire::Reply{1, {.shape = {2, 3}}, 128}))));
  save(folder / "refusal", text(wire::encode(wire::ServerMessage(wire::Refusal{1, "no"}))));
}

/// A frame as tests/fuzz/fuzz_frames.cpp reads it.
std::string frame_seed(const std::vector<std::byte>& message, const std::string& payload) {
  const std::vector<std::byte> head = tempo::wire::frame_head(message);
  const size_t bytes = head.size() + payload.size();
  const char length[] = {static_cast<char>(bytes & 0xff), static_cast<char>(bytes >> 8)};
  return std::string(length, 2) + std::string(reinterpret_cast<const char*>(head.data()), head.size()) + payload;
}

void make_frames(const std::filesystem::path& folder) {
  using namespace tempo;
  const auto put = wire::encode(wire::ClientMessage(wire::Put{1, {.shape = {3}}, 0}));
  const auto reply = wire::encode(wire::ServerMessage(wire::Reply{1, {.shape = {3}}, 0}));
  const auto chunk = wire::encode(wire::ClientMessage(wire::Chunk{12}));
  const auto answer_chunk = wire::encode(wire::ServerMessage(wire::Chunk{12}));
  save(folder / "put", frame_seed(put, "") + frame_seed(chunk, "abcdefghijkl"));
  save(folder / "reply", frame_seed(reply, "") + frame_seed(answer_chunk, "abcdefghijkl"));
  save(folder / "short_chunk", frame_seed(put, "") + frame_seed(chunk, "abc"));
  save(folder / "two_announced", frame_seed(put, "") + frame_seed(put, ""));
  save(folder / "long_message", std::string("\6\0\xff\xff\xff\xff\1\2", 8));
}

std::string service_seed(char kind, std::span<const std::byte> bytes) {
  return kind + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void make_service(const std::filesystem::path& folder) {
  using namespace tempo::service;
  JobState state;
  save(folder / "state_new", service_seed(0, encode(state).bytes()));
  state.checkpoint = CheckpointEntry{3, tempo::key_from_seed_insecure(1)};
  state.config = "model = 'lenet'\n";
  state.note = "note";
  state.summary = "{}";
  state.lines = {{1, "{\"step\":1}"}, {2, "{\"step\":2}"}};
  save(folder / "state", service_seed(0, encode(state).bytes()));
  save(folder / "record", service_seed(1, encode(JobRecord{.job = {}, .owner = {}, .archive_bytes = 99})));
  Release release;
  save(folder / "release_again", service_seed(2, encode_release(release, {}).bytes()));
  release.is_first = true;
  release.config = state.config;
  save(folder / "release", service_seed(2, encode_release(release, {}).bytes()));
  tempo::v1::JobRequest challenge;
  challenge.mutable_challenge()->set_version(kProtocolVersion);
  challenge.mutable_challenge()->set_nonce(std::string(kNonceBytes, 'n'));
  save(folder / "challenge", "\3" + challenge.SerializeAsString());
  tempo::v1::JobReply jobs;
  fill({.job = {}, .phase = Phase::kRunning, .counter = 2, .note = "note"}, *jobs.mutable_jobs()->add_jobs());
  save(folder / "jobs", "\3" + jobs.SerializeAsString());
  save(folder / "failure", "\3" + no_such_job().SerializeAsString());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_corpus FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  make_safetensors(folder / "safetensors");
  make_sealed_file(folder / "sealed_file");
  make_sealed_archive(folder / "sealed_archive");
  make_cifar(folder / "cifar");
  make_shm(folder / "shm");
  make_messages(folder / "messages");
  make_frames(folder / "frames");
  make_service(folder / "service");
  tempo::fuzz::make_attest_corpus(folder);
  return 0;
}
