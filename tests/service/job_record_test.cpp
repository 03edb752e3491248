// What lies on the service's disk: read exactly, or refused.
#include "service/job_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::service {
namespace job_record_test {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

JobState example() {
  JobState state;
  state.job = random_job_id();
  state.owner.fill(std::byte{9});
  state.counter = 12;
  state.phase = Phase::kRunning;
  state.step = 40;
  state.config = "model = 'lenet'\n";
  state.note = "note";
  state.summary = "{}";
  state.checkpoint = CheckpointEntry{3, SecretKey::random()};
  state.first_line = 5;
  state.lines = {{39, "{\"step\":39}"}, {40, "{\"step\":40}"}};
  return state;
}

TEST(JobState, AStateRoundTrips) {
  const JobState state = example();
  const JobState again = parse_job_state(encode(state).bytes(), "state");
  EXPECT_EQ(again.job, state.job);
  EXPECT_EQ(again.owner, state.owner);
  EXPECT_EQ(again.counter, 12U);
  EXPECT_EQ(again.phase, Phase::kRunning);
  EXPECT_EQ(again.step, 40U);
  EXPECT_EQ(again.config, state.config);
  EXPECT_EQ(again.note, "note");
  EXPECT_EQ(again.summary, "{}");
  ASSERT_TRUE(again.checkpoint.has_value());
  EXPECT_EQ(again.checkpoint->number, 3U);
  EXPECT_TRUE(again.checkpoint->key.equals(state.checkpoint->key));
  EXPECT_EQ(again.first_line, 5U);
  EXPECT_EQ(again.lines, state.lines);
}

TEST(JobState, EveryTruncatedOrLongerStateIsRefused) {
  const SecretBytes whole = encode(example());
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(parse_job_state(whole.bytes().first(size), "state"), InputError) << size;
  attest::Bytes longer(whole.bytes().begin(), whole.bytes().end());
  longer.push_back(std::byte{0});
  EXPECT_THAT(message_of<InputError>([&] { parse_job_state(longer, "state"); }), HasSubstr("1 bytes too many"));
}

TEST(JobState, AStateOnDiskCannotBeReadWithoutTheKeyOfTheJob) {
  const TempFolder folder;
  const SecretKey data_key = SecretKey::random();
  const JobState state = example();
  const SecretKey key = job_key(data_key, state.job);
  save_job_state(state, folder / "state", key);
  EXPECT_EQ(load_job_state(folder / "state", key).counter, 12U);
  const SecretKey of_another_job = job_key(data_key, random_job_id());
  EXPECT_THAT(message_of<InputError>([&] { load_job_state(folder / "state", of_another_job); }),
              HasSubstr("sealed under key"));
  const auto bytes = read_file(folder / "state", 1 << 20);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(text.find("lenet"), std::string::npos);
  EXPECT_EQ(text.find("step"), std::string::npos);
}

TEST(JobRecord, TruncatedAndForeignRecordsAreRefused) {
  const JobRecord record{.job = random_job_id(), .owner = {std::byte{1}}, .archive_bytes = 99};
  const attest::Bytes bytes = encode(record);
  EXPECT_EQ(parse_job_record(bytes, "job"), record);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(parse_job_record(std::span(bytes).first(size), "job"), InputError) << size;
  attest::Bytes other = bytes;
  other[0] = std::byte{'X'};
  EXPECT_THAT(message_of<InputError>([&] { parse_job_record(other, "job"); }), HasSubstr("TEMPOJOB"));
}

TEST(JobKey, KeysDifferByJobAndByDataKey) {
  const SecretKey a = SecretKey::random(), b = SecretKey::random();
  const JobId one = random_job_id(), two = random_job_id();
  EXPECT_NE(one, two);
  EXPECT_TRUE(job_key(a, one).equals(job_key(a, one)));
  EXPECT_FALSE(job_key(a, one).equals(job_key(a, two)));
  EXPECT_FALSE(job_key(a, one).equals(job_key(b, one)));
  EXPECT_EQ(parse_job_id(to_string(one)), one);
  EXPECT_THROW(parse_job_id("12"), InputError);
}

}  // namespace job_record_test
}  // namespace tempo::service
