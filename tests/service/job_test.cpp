// Jobs over restarts: what goes on, and what is refused because somebody changed the disk.
#include "service/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service_peers.h"

namespace tempo::service {
namespace job_test {

using namespace testing_peers;  // NOLINT: the cast of every test here
using ::testing::HasSubstr;
using testing::message_of;

class Jobs : public ::testing::Test {
 protected:
  void SetUp() override { FakeTraining::pause_at = -1; }
  void TearDown() override { FakeTraining::pause_at = -1; }

  [[nodiscard]] std::filesystem::path folder_of(const JobId& id) const {
    return service.folder / ("state/" + to_string(id));
  }
  [[nodiscard]] std::filesystem::path copy_of(const JobId& id) const {
    const auto copy = owner.folder / "copy";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(folder_of(id), copy, std::filesystem::copy_options::recursive);
    return copy;
  }
  void put_back(const std::filesystem::path& copy, const JobId& id) const {
    std::filesystem::remove_all(folder_of(id));
    std::filesystem::copy(copy, folder_of(id), std::filesystem::copy_options::recursive);
  }
  /// A job that stands at step 12, its checkpoint at 10, on a service that was started anew.
  JobId interrupted() {
    FakeTraining::pause_at = 12;
    const auto client = owner.connect(service);
    const JobId id = owner.submit(*client);
    for (int i = 0; client->status(id).front().step < 10; ++i) {
      if (i == 2000) throw RunError("the job does not get on");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return id;
  }

  Service service;
  Owner owner;
};

TEST_F(Jobs, AJobRunsToItsEndAndIsFetched) {
  const auto client = owner.connect(service);
  const JobId id = owner.submit(*client);
  const JobView view = Owner::wait_for(*client, id, Phase::kDone);
  EXPECT_EQ(view.step, 20U);
  const Client::Lines lines = client->logs(id, 0);
  ASSERT_EQ(lines.lines.size(), 20U);
  EXPECT_EQ(lines.lines.back(), "{\"step\":20,\"workers\":3}");
  EXPECT_TRUE(lines.is_over);
  const FetchedJob fetched = client->fetch(id, owner.key);
  EXPECT_EQ(fetched.checkpoint.size(), 20U);
  EXPECT_EQ(fetched.state.phase, Phase::kDone);
  EXPECT_THAT(fetched.state.summary, HasSubstr("\"completed\": true"));
  EXPECT_THAT(message_of<InputError>([&] { client->fetch(id, SecretKey::random()); }), HasSubstr("sealed under key"));
  EXPECT_THAT(service.folder.names(), ::testing::UnorderedElementsAre("log", "state"));
}

TEST_F(Jobs, AfterARestartAJobWaitsForTheKeyAndGoesOn) {
  const JobId id = interrupted();
  service.restart();
  const auto client = owner.connect(service);
  const JobView waiting = client->status(id).front();
  EXPECT_EQ(waiting.phase, Phase::kWaitingForKey);
  EXPECT_EQ(waiting.counter, 0U) << "it is sealed";
  EXPECT_THAT(message_of<InputError>([&] { client->logs(id, 0); }), HasSubstr("sealed"));
  FakeTraining::pause_at = -1;
  owner.release(*client, id);
  EXPECT_EQ(Owner::wait_for(*client, id, Phase::kDone).step, 20U);
  EXPECT_EQ(FakeTraining::last_start, 12) << "the step at which it was stopped";
  EXPECT_EQ(client->logs(id, 0).lines.size(), 20U);
}

TEST_F(Jobs, AnOlderStatePutBackOnDiskIsRefusedAndLogged) {
  const JobId id = interrupted();
  service.server.reset();
  service.start();
  const auto old = copy_of(id);
  {
    const auto client = owner.connect(service);
    FakeTraining::pause_at = 17;
    owner.release(*client, id);
    for (int i = 0; i < 2000 && client->status(id).front().step < 15; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  service.server.reset();
  put_back(old, id);
  service.start();
  const auto client = owner.connect(service);
  try {
    owner.release(*client, id);
    FAIL() << "a rolled-back state was taken";
  } catch (const AttestationError& error) {
    EXPECT_THAT(error.what(), HasSubstr("somebody put an older one back"));
    EXPECT_EQ(error.exit_code(), ExitCode::kAttestation);
  }
  EXPECT_THAT(service.logged(), HasSubstr("somebody put an older"));
  EXPECT_EQ(client->status(id).front().phase, Phase::kWaitingForKey);
  EXPECT_THROW(client->fetch(id, owner.key), AttestationError) << "nor does the client take it as a result";
}

TEST_F(Jobs, AJobWhoseStateIsGoneIsRefused) {
  const JobId id = interrupted();
  service.server.reset();
  std::filesystem::remove(folder_of(id) / "state.sealed");
  service.start();
  const auto client = owner.connect(service);
  EXPECT_THROW(owner.release(*client, id), AttestationError);
  EXPECT_THROW(owner.release(*client, id, true), AttestationError) << "not begun anew unnoticed either";
}

TEST_F(Jobs, AnOlderCheckpointUnderTheNewStateIsRefused) {
  const JobId id = interrupted();
  const auto old = copy_of(id);
  service.restart();
  auto client = owner.connect(service);
  FakeTraining::pause_at = 17;
  owner.release(*client, id);
  for (int i = 0; i < 2000 && client->status(id).front().step < 15; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  client.reset();
  service.server.reset();
  const auto checkpoint_in = [](const std::filesystem::path& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().filename().string().starts_with("checkpoint-")) return entry.path();
    throw RunError("no checkpoint");
  };
  std::filesystem::copy_file(checkpoint_in(old), checkpoint_in(folder_of(id)),
                             std::filesystem::copy_options::overwrite_existing);
  service.start();
  client = owner.connect(service);
  FakeTraining::pause_at = -1;
  owner.release(*client, id);
  const JobView view = Owner::wait_for(*client, id, Phase::kFailed);
  EXPECT_THAT(view.note, HasSubstr("sealed under key"));
}

TEST_F(Jobs, AServiceThatReportsALowerCounterThanBeforeIsRefused) {
  const auto client = owner.connect(service);
  const JobId id = owner.submit(*client);
  Owner::wait_for(*client, id, Phase::kDone);
  RememberedJob remembered = client->jobs().load(id);
  remembered.counter += 1;
  client->jobs().save(remembered);
  EXPECT_THROW(client->status(id), AttestationError);
  EXPECT_THROW(client->fetch(id, owner.key), AttestationError);
}

TEST_F(Jobs, CancellingSavesAndStopsAJob) {
  const JobId id = interrupted();
  const auto client = owner.connect(service);
  client->cancel(id, false);
  const JobView view = Owner::wait_for(*client, id, Phase::kCancelled);
  EXPECT_EQ(view.step, 12U);
  EXPECT_EQ(client->fetch(id, owner.key).checkpoint.size(), 12U);
  FakeTraining::pause_at = -1;
  owner.release(*client, id);  // and it may go on
  EXPECT_EQ(Owner::wait_for(*client, id, Phase::kDone).step, 20U);
  client->cancel(id, true);
  EXPECT_FALSE(std::filesystem::exists(folder_of(id)));
}

TEST_F(Jobs, AnUploadMustComeInOrderAndContinuesAfterARestart) {
  const std::string archive(3'000'000, 'a');
  std::ofstream(owner.folder / "archive") << archive;
  JobId id{};
  {
    const auto client = owner.connect(service);
    id = client->create(archive.size()).job;
    std::ofstream(owner.folder / "part") << archive.substr(0, 1'500'000);
    client->upload(id, owner.folder / "part", 0, [](uint64_t) {});
    EXPECT_THAT(message_of<InputError>([&] { client->upload(id, owner.folder / "part", 7, [](uint64_t) {}); }),
                HasSubstr("expected those from 1500000 on"));
    Release release;
    release.job = id;
    release.data_key = owner.key.duplicate();
    release.is_first = true;
    EXPECT_THAT(message_of<InputError>([&] { client->release(release); }), HasSubstr("it is uploading"));
  }
  service.restart();
  const auto client = owner.connect(service);
  const JobView view = client->status(id).front();
  EXPECT_EQ(view.uploaded, 1'500'000U);
  client->upload(id, owner.folder / "archive", view.uploaded, [](uint64_t) {});
  EXPECT_EQ(client->status(id).front().phase, Phase::kWaitingForKey);
  EXPECT_EQ(read_text_file(folder_of(id) / "data.sealed", 4 << 20), archive);
}

}  // namespace job_test
}  // namespace tempo::service
