#include "wire/shm_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/messages.h"

namespace tempo::wire {
namespace shm_channel_test {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using testing::message_of;

constexpr milliseconds kForever{-1}, kSoon{20}, kLong{60'000};

class ShmChannelTest : public ::testing::Test {
 protected:
  ShmChannelTest() : file_(create_shm_file(kMinSegmentBytes)), segment_(file_) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    master_ = std::make_unique<ShmChannel>(segment_, UniqueDescriptor(ends[0]), ShmSide::kMaster);
    worker_ = std::make_unique<ShmChannel>(segment_, UniqueDescriptor(ends[1]), ShmSide::kWorker);
  }

  UniqueDescriptor file_;
  ShmSegment segment_;
  std::unique_ptr<ShmChannel> master_, worker_;
  std::vector<std::byte> message_ = std::vector<std::byte>(100, std::byte{3}), received_;
};

TEST_F(ShmChannelTest, AMessageWakesASleepingReader) {
  std::thread replying([this] {
    std::vector<std::byte> bytes;
    for (int i = 0; i < 2000; ++i) {
      ASSERT_EQ(worker_->receive(bytes, kForever), Arrival::kMessage);
      ASSERT_EQ(worker_->send(bytes, kLong), Sent::kYes);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    std::memcpy(message_.data(), &i, sizeof i);
    ASSERT_EQ(master_->send(message_, kLong), Sent::kYes);
    ASSERT_EQ(master_->receive(received_, kForever), Arrival::kMessage);
    ASSERT_EQ(received_, message_);
  }
  replying.join();
}

TEST_F(ShmChannelTest, MessagesSentBeforeThePeerLeftAreStillRead) {
  ASSERT_EQ(worker_->send(message_, kLong), Sent::kYes);
  ASSERT_EQ(worker_->send(message_, kLong), Sent::kYes);
  worker_.reset();
  EXPECT_EQ(master_->receive(received_, kForever), Arrival::kMessage);
  EXPECT_EQ(master_->receive(received_, kForever), Arrival::kMessage);
  EXPECT_EQ(master_->receive(received_, kForever), Arrival::kPeerGone);
}

TEST_F(ShmChannelTest, ReceivingTimesOut) { EXPECT_EQ(master_->receive(received_, kSoon), Arrival::kTimeout); }

TEST_F(ShmChannelTest, ClosingWakesBothSides) {
  std::thread sleeper([this] {
    std::vector<std::byte> bytes;
    EXPECT_EQ(worker_->receive(bytes, kForever), Arrival::kPeerGone);
  });
  std::this_thread::sleep_for(kSoon);
  master_->close();
  sleeper.join();
  EXPECT_EQ(master_->receive(received_, kForever), Arrival::kPeerGone);
  EXPECT_EQ(master_->send(message_, kLong), Sent::kPeerGone);
}

TEST_F(ShmChannelTest, APeerThatStopsReadingDoesNotHangTheSender) {
  message_.resize(kMaxMessageBytes);
  ASSERT_EQ(master_->send(message_, kSoon), Sent::kYes);
  EXPECT_EQ(master_->send(message_, kSoon), Sent::kFull);
  worker_.reset();
  EXPECT_EQ(master_->send(message_, kLong), Sent::kPeerGone);
}

TEST_F(ShmChannelTest, ASenderDoesNotBlockIfThePeerNeverReadsDoorbells) {
  // A hostile reader claims to sleep all the time and never empties its socket.
  message_.resize(1);
  const RingMemory ring = ring_memory(segment_.bytes(), ShmRing::kToWorker);
  for (int i = 0; i < 5000; ++i) {
    *ring.reader_sleeps = 1;
    ASSERT_EQ(master_->send(message_, kLong), Sent::kYes);
  }
}

TEST(ShmSocket, BadNamesAreRefused) {
  for (const std::string& name : {std::string(), std::string("a/b"), std::string("a b"), std::string("\xc3\xa9"),
                                  std::string(65, 'a'), std::string("a\0b", 3)})
    EXPECT_THROW(listen_shm(name), InputError) << name;
}

TEST(ShmSocket, ANameCanBeServedByOneProcessOnly) {
  const std::string name = "tempo-test-once-" + std::to_string(getpid());
  const UniqueDescriptor first = listen_shm(name);
  EXPECT_THAT(message_of<InputError>([&] { listen_shm(name); }), HasSubstr("served by another process already"));
}

TEST(ShmSocket, ConnectingToNobodyFailsAtOnceWithAReason) {
  const auto start = steady_clock::now();
  EXPECT_THAT(message_of<WorkerLostError>([&] { connect_shm("tempo-test-nobody", kSoon); }),
              HasSubstr("no worker listens there"));
  EXPECT_LT(steady_clock::now() - start, kLong / 2);
}

class ShmHandshake : public ::testing::Test {
 protected:
  ShmHandshake() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    master_ = UniqueDescriptor(ends[0]);
    worker_ = UniqueDescriptor(ends[1]);
  }
  UniqueDescriptor master_, worker_;
};

TEST_F(ShmHandshake, OneSegmentIsHandedOver) {
  check_shm_peer(master_);
  ASSERT_TRUE(send_shm_file(worker_, create_shm_file(kMinSegmentBytes)));
  const ShmSegment segment(receive_shm_file(master_, kLong));
  EXPECT_EQ(segment.bytes().size(), kMinSegmentBytes);
}

TEST_F(ShmHandshake, AnythingButOneSegmentIsRefused) {
  EXPECT_THAT(message_of<WorkerLostError>([&] { receive_shm_file(master_, kSoon); }), HasSubstr("in time"));
  ASSERT_TRUE(send_shm_refusal(worker_, "no\nroom"));
  EXPECT_THAT(message_of<WorkerLostError>([&] { receive_shm_file(master_, kSoon); }), HasSubstr("no?room"));
  ASSERT_TRUE(send_shm_refusal(worker_, "TEMPOSHM"));
  EXPECT_THAT(message_of<ProtocolError>([&] { receive_shm_file(master_, kSoon); }), HasSubstr("has no segment"));
  const std::string long_text(5000, 'a');
  ASSERT_GT(send(worker_.get(), long_text.data(), long_text.size(), 0), 0);
  EXPECT_THAT(message_of<ProtocolError>([&] { receive_shm_file(master_, kSoon); }), HasSubstr("too long"));
  worker_.reset();
  EXPECT_THAT(message_of<WorkerLostError>([&] { receive_shm_file(master_, kSoon); }), HasSubstr("closed"));
}

}  // namespace shm_channel_test
}  // namespace tempo::wire
