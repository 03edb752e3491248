#include "offload/pool/worker_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace worker_list_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
  // Two writes within one tick of the clock are told apart by their length alone.
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now());
}

TEST(WorkerList, AListIsParsedAndMistakesAreRefused) {
  EXPECT_THAT(WorkerList("shm://a, grpc://b:1").uris(), ElementsAre("shm://a", "grpc://b:1"));
  const auto refusal = [](const std::string& text) { return message_of<InputError>([&] { WorkerList list(text); }); };
  EXPECT_THAT(refusal(""), HasSubstr("expected at least one"));
  EXPECT_THAT(refusal("shm://a,,shm://b"), HasSubstr("got \"\", expected local, inprocess:"));
  EXPECT_THAT(refusal("local,shm://a"), HasSubstr("got \"local\""));
  EXPECT_THAT(refusal("shm://a,shm://a"), HasSubstr("shm://a is named twice"));
  EXPECT_THAT(refusal("grpc://nowhere"), HasSubstr("nowhere"));
  EXPECT_THAT(refusal("file:/absent/list"), HasSubstr("cannot be read"));
}

TEST(WorkerList, ChangesOfAFileAreFollowed) {
  const TempFolder folder;
  const auto file = folder / "workers";
  write(file, "# ours\nshm://a\n\n  grpc://b:1  # the big one\n");
  WorkerList list("file:" + file.string());
  EXPECT_THAT(list.uris(), ElementsAre("shm://a", "grpc://b:1"));
  std::string problem;
  EXPECT_EQ(list.changed(problem), std::nullopt);
  write(file, "shm://a\n");
  EXPECT_THAT(list.changed(problem).value(), ElementsAre("shm://a"));
  EXPECT_TRUE(problem.empty());
  write(file, "shm://a\nhttp://c\n");
  EXPECT_EQ(list.changed(problem), std::nullopt);
  EXPECT_THAT(problem, HasSubstr("http://c"));
  EXPECT_THAT(list.uris(), ElementsAre("shm://a"));
  problem.clear();
  EXPECT_EQ(list.changed(problem), std::nullopt);
  EXPECT_TRUE(problem.empty()) << "said once";
}

}  // namespace worker_list_test
}  // namespace tempo::offload
