// Several clients: each has its own jobs, in one queue, and can neither see nor touch another's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "observe/http_get.h"
#include "service/job_config.h"
#include "service_peers.h"

namespace tempo::service {
namespace jobs_of_clients_test {

using namespace testing_peers;  // NOLINT: the cast of every test here
using ::testing::HasSubstr;
using testing::message_of;

class JobsOfClients : public ::testing::Test {
 protected:
  void TearDown() override { FakeTraining::pause_at = -1; }
  Service service;
  Owner alice, bob;
};

TEST_F(JobsOfClients, AJobOfAnotherClientLooksLikeNoJob) {
  const auto a = alice.connect(service), b = bob.connect(service);
  const JobId id = alice.submit(*a);
  Owner::wait_for(*a, id, Phase::kDone);
  const JobId nobodys = random_job_id();
  const auto refusals_of = [&](const JobId& job) {
    std::vector<std::string> all;
    Release release;
    release.job = job;
    release.data_key = bob.key.duplicate();
    all.push_back(message_of<InputError>([&] { b->status(job); }));
    all.push_back(message_of<InputError>([&] { b->logs(job, 0); }));
    all.push_back(message_of<InputError>([&] { b->fetch(job, bob.key); }));
    all.push_back(message_of<InputError>([&] { b->cancel(job, false); }));
    all.push_back(message_of<InputError>([&] { b->cancel(job, true); }));
    all.push_back(message_of<InputError>([&] { b->release(release); }));
    return all;
  };
  const auto others = refusals_of(id);
  EXPECT_EQ(others, refusals_of(nobodys)) << "whether there is such a job shows";
  for (const std::string& refusal : others) EXPECT_THAT(refusal, HasSubstr("permission denied"));
  EXPECT_TRUE(b->status({}).empty());
  EXPECT_EQ(a->status({}).size(), 1U);
  EXPECT_THAT(service.logged(), HasSubstr("permission denied"));
}

TEST_F(JobsOfClients, AForgedOwnerOnDiskGetsOnlyCiphertext) {
  JobId id{};
  {
    const auto a = alice.connect(service);
    id = alice.submit(*a);
    Owner::wait_for(*a, id, Phase::kDone);
  }
  service.server.reset();
  const auto file = service.folder / ("state/" + to_string(id) + "/job");
  JobRecord record = parse_job_record(read_file(file, 1000), "job");
  record.owner = sha256(bob.identity.spki());
  AtomicFile out(file);
  out.write(encode(record));
  out.commit();
  service.start();
  const auto b = bob.connect(service);
  EXPECT_EQ(b->status(id).front().phase, Phase::kWaitingForKey);
  EXPECT_THAT(message_of<InputError>([&] { b->fetch(id, bob.key); }), HasSubstr("sealed under key"));
  RememberedJob remembered;
  remembered.job = id;
  b->jobs().save(remembered);
  EXPECT_THAT(message_of<InputError>([&] { bob.release(*b, id); }), HasSubstr("sealed under key"));
  Release release;  // the right key, but not the client that the state belongs to
  release.job = id;
  release.data_key = alice.key.duplicate();
  EXPECT_THROW(b->release(release), AttestationError) << "the owner is sealed in the state, too";
}

TEST_F(JobsOfClients, JobsQueueAndRunInOrder) {
  FakeTraining::pause_at = 3;
  const auto a = alice.connect(service), b = bob.connect(service);
  const JobId first = alice.submit(*a);
  Owner::wait_for(*a, first, Phase::kRunning);
  const JobId second = bob.submit(*b);
  const JobId third = alice.submit(*a);
  EXPECT_EQ(b->status(second).front().ahead, 1U);
  EXPECT_EQ(a->status(third).front().ahead, 2U);
  a->cancel(third, false);
  EXPECT_EQ(a->status(third).front().phase, Phase::kCancelled);
  FakeTraining::pause_at = -1;
  Owner::wait_for(*a, first, Phase::kDone);
  Owner::wait_for(*b, second, Phase::kDone);
  EXPECT_EQ(a->status(third).front().phase, Phase::kCancelled);
}

TEST_F(JobsOfClients, OneClientCannotTakeAllJobsAndSpace) {
  service.server.reset();
  service.start({.jobs_per_client = 2, .jobs = 3, .archive_bytes = 1000});
  const auto a = alice.connect(service), b = bob.connect(service);
  EXPECT_THAT(message_of<InputError>([&] { a->create(1001); }), HasSubstr("expected at most 1000"));
  a->create(10);
  a->create(10);
  EXPECT_THAT(message_of<InputError>([&] { a->create(10); }), HasSubstr("this client has 2 jobs"));
  b->create(10);
  EXPECT_THAT(message_of<InputError>([&] { b->create(10); }), HasSubstr("as many jobs as it may"));
}

TEST_F(JobsOfClients, ARefusedJobIsRemoved) {
  service.server.reset();
  service.start({.jobs_per_client = 1, .jobs = 1, .archive_bytes = 1000});
  const auto a = alice.connect(service);
  for (int i = 0; i < 3; ++i) {
    Release release;
    release.job = a->create(0).job;
    release.data_key = alice.key.duplicate();
    release.is_first = true;
    release.config = "workers = 'local'\n";
    EXPECT_THAT(message_of<InputError>([&] { a->release(release); }), HasSubstr("for the service to decide"));
    EXPECT_TRUE(a->status({}).empty());
  }
  const JobId id = alice.submit(*a);
  Owner::wait_for(*a, id, Phase::kDone);
  EXPECT_EQ(a->status({}).size(), 1U);
}

TEST_F(JobsOfClients, AClientCannotSetWhatBelongsToTheService) {
  for (const char* key :
       {"workers", "tls", "out", "resume", "key", "data-key", "init", "log", "metrics", "page", "tee-threads"}) {
    const std::string value = std::string(key) == "tee-threads" ? " = 3\n" : " = '/etc/passwd'\n";
    EXPECT_THROW(check_job_settings(key + value, 0), InputError) << key;
  }
  EXPECT_THAT(message_of<InputError>([] { check_job_settings("data = '/etc'\n", 0); }), HasSubstr("names a place"));
  EXPECT_THAT(message_of<InputError>([] { check_job_settings("data = 'synthetic'\n", 10); }),
              HasSubstr("expected the uploaded archive"));
  for (const char* scheme : {"none", "permuted"}) {
    const std::string protection = fmt::format("protection = '{}'\n", scheme);
    EXPECT_THAT(message_of<InputError>([&] { check_job_settings(protection, 0); }), HasSubstr("--allow-unprotected"));
    check_job_settings(protection + "allow-unprotected = true\n", 0);
  }
  EXPECT_THAT(message_of<InputError>([] { check_job_settings("train-size = 10000000\nimage-size = 256\n", 0); }),
              HasSubstr("more generated images"));
  EXPECT_THROW(check_job_settings("model = \n", 0), InputError);
  EXPECT_THROW(check_job_settings(std::string(kMaxJobConfigBytes + 1, '#'), 0), InputError);
  check_job_settings("model = 'lenet'\nepochs = 2\n", 10);
  RunConfig base;
  base.workers = "local";
  EXPECT_EQ(job_run_config("model = 'lenet'\n", base).workers, "local");
}

TEST_F(JobsOfClients, TheOperatorSeesOnlyWhatAHostCanFindOut) {
  const std::string address = service.server->page();
  const auto port = static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  const auto list = [&] { return testing::http_get(port, "/jobs.json"); };
  EXPECT_THAT(list(), HasSubstr("{\"jobs\":[]}"));
  const auto a = alice.connect(service), b = bob.connect(service);
  FakeTraining::pause_at = 7;
  const JobId first = alice.submit(*a);
  Owner::wait_for(*a, first, Phase::kRunning);
  const JobId second = bob.submit(*b);
  for (int i = 0; i < 2000 && list().find("\"step\":5,") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const std::string running = list();
  EXPECT_THAT(running, HasSubstr(fmt::format("{{\"job\":\"{}\",\"state\":\"running\",\"ahead\":0,", to_string(first))));
  EXPECT_THAT(running, HasSubstr(fmt::format("{{\"job\":\"{}\",\"state\":\"queued\",\"ahead\":1,\"began\":0,\"step\":0,"
                                             "\"workers\":0,\"archive_bytes\":0}}",
                                             to_string(second))));
  EXPECT_THAT(running, HasSubstr("\"step\":5,\"workers\":3,"));
  FakeTraining::pause_at = -1;
  Owner::wait_for(*b, second, Phase::kDone);
  const std::string page = testing::http_get(port, "/") + list();
  EXPECT_THAT(page, HasSubstr("\"state\":\"done\""));
  for (const std::string& secret :
       {std::string("lenet"), attest::to_hex(sha256(alice.identity.spki())), std::string("loss\":")})
    EXPECT_EQ(page.find(secret), std::string::npos) << secret;
}

}  // namespace jobs_of_clients_test
}  // namespace tempo::service
