#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo {
namespace file_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using ::testing::UnorderedElementsAre;
using testing::write_text;

TEST(AtomicFile, AFileAppearsWholeAtCommit) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  {
    AtomicFile file(path, 0600);
    file.write("first");
    EXPECT_FALSE(std::filesystem::exists(path));
    file.commit();
  }
  EXPECT_EQ(read_text_file(path, 100), "first");
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(AtomicFile, WithoutCommitTheOldFileStays) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  write_text(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

void write_whole(const std::filesystem::path& path, std::string_view text, mode_t mode = 0644) {
  AtomicFile file(path, mode);
  file.write(text);
  file.commit();
}

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0);
  return status.st_mode & 07777U;
}

TEST(AtomicFile, AReplacedFileKeepsItsMode) {
  const TempFolder folder;
  write_text(folder / "a", "old");
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0640), 0);
  write_whole(folder / "a", "new", 0600);
  EXPECT_EQ(mode_of(folder / "a"), 0640U);
  EXPECT_EQ(read_text_file(folder / "a", 100), "new");
}

TEST(AtomicFile, TheTargetOfALinkIsWritten) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "deep");
  write_text(folder / "deep/target", "old");
  std::filesystem::create_symlink("deep/second", folder / "first");
  std::filesystem::create_symlink("target", folder / "deep/second");
  write_whole(folder / "first", "new");
  EXPECT_EQ(read_text_file(folder / "deep/target", 100), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "first"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "deep/second"));

  std::filesystem::create_symlink("free", folder / "dangling");
  write_whole(folder / "dangling", "made");
  EXPECT_EQ(read_text_file(folder / "free", 100), "made");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "dangling"));

  std::filesystem::create_symlink("circle", folder / "circle");
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile(folder / "circle"); }), HasSubstr("circle: cannot be written"));
}

TEST(AtomicFile, APipeIsWrittenOnceItHasAReader) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = read_text_file_or_pipe(folder / "pipe", 1 << 20); });
  const std::string text(200'000, 'x');  // more than a pipe holds
  write_whole(folder / "pipe", text);
  reader.join();
  EXPECT_EQ(got, text);
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_THAT(folder.names(), ElementsAre("pipe"));
}

TEST(AtomicFile, ADescriptorOfThisProcessIsWrittenTo) {
  const TempFolder folder;
  const UniqueDescriptor file(::open((folder / "a").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::write(file.get(), "before ", 7), 7);
  std::filesystem::create_symlink("/dev/fd/" + std::to_string(file.get()), folder / "link");
  write_whole(folder / "link", "after");
  EXPECT_EQ(read_text_file(folder / "a", 100), "before after");
  const UniqueDescriptor read_only(::open((folder / "a").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile("/proc/self/fd/" + std::to_string(read_only.get())); }),
              HasSubstr("cannot be written"));
  EXPECT_THAT(message_of<InputError>([] { AtomicFile("/dev/fd/999"); }), HasSubstr("is not open"));
}

TEST(AtomicFile, ADeviceStaysADevice) {
  const TempFolder folder;
  if (::mknod((folder / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0 ||
      ::access((folder / "null").c_str(), W_OK) != 0 ||
      UniqueDescriptor(::open((folder / "null").c_str(), O_WRONLY)).get() < 0)
    GTEST_SKIP() << "only root may make devices";
  write_whole(folder / "null", "gone");
  EXPECT_TRUE(std::filesystem::is_character_file(folder / "null"));
  EXPECT_THAT(folder.names(), ElementsAre("null"));
}

TEST(AtomicFile, FoldersAndSocketsAreRefused) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "folder");
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile(folder / "folder"); }), HasSubstr("folder: is a folder"));
  const UniqueDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = folder / "socket";
  ASSERT_LT(name.size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, name.c_str());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile{std::filesystem::path(name)}; }),
              HasSubstr("socket: is a socket"));
}

TEST(AtomicFile, ABadPathIsReportedInOneLine) {
  const TempFolder folder;
  write_text(folder / "file", "");
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile(folder / std::string(300, 'a')); }), HasSubstr("too long"));
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile(folder / "none/a"); }), HasSubstr("No such file"));
  EXPECT_THAT(message_of<InputError>([&] { AtomicFile(folder / "file/a"); }), HasSubstr("Not a directory"));
  const std::string longest(255, 'a');
  write_whole(folder / longest, "fits");
  EXPECT_THAT(folder.names(), UnorderedElementsAre("file", longest));
}

TEST(AtomicFile, TheFirstWriteRemovesOnlyLeftoversOfKilledProcesses) {
  const TempFolder folder;
  write_text(folder / "a.tmp.0123abcd", "left over");
  write_text(folder / "a.tmp.12", "somebody's");
  write_text(folder / "b.tmp.0123abcd", "of another file");
  write_text(folder / "a.tmp.00000000", "being written");
  const UniqueDescriptor writer(::open((folder / "a.tmp.00000000").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(writer.get(), LOCK_EX), 0);
  write_whole(folder / "a", "whole");
  EXPECT_THAT(folder.names(), UnorderedElementsAre("a", "a.tmp.12", "a.tmp.00000000", "b.tmp.0123abcd"));
}

TEST(NewFile, ANameThatExistsIsNotOverwritten) {
  const TempFolder folder;
  write_text(folder / "file", "kept");
  std::filesystem::create_symlink("free", folder / "link");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  for (const char* name : {"file", "link", "pipe"}) {
    SCOPED_TRACE(name);
    NewFile file(folder / name, 0600);
    file.write("new");
    EXPECT_FALSE(file.commit());
  }
  EXPECT_THAT(folder.names(), UnorderedElementsAre("file", "link", "pipe"));
  EXPECT_EQ(read_text_file(folder / "file", 100), "kept");
  NewFile file(folder / "key", 0600);
  file.write("new");
  EXPECT_TRUE(file.commit());
  EXPECT_EQ(mode_of(folder / "key"), 0600U);
  EXPECT_EQ(read_text_file(folder / "key", 100), "new");
}

void on_signal(int) {}

/// A thread that waits at a pipe without another end, interrupted by a signal that the program handles.
template <typename Body>
std::string message_when_interrupted(const Body& body) {
  struct sigaction handled {
  }, before{};
  handled.sa_handler = on_signal;
  handled.sa_flags = SA_RESTART;  // as std::signal has it
  ::sigaction(SIGUSR1, &handled, &before);
  std::atomic<bool> is_over = false;
  std::string message;
  std::thread waiting([&] {
    message = message_of<RunError>(body);
    is_over = true;
  });
  while (!is_over) {  // it may not be waiting yet
    ::pthread_kill(waiting.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  waiting.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  return message;
}

TEST(Pipe, ASignalEndsTheWaitForTheOtherEnd) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_when_interrupted([&] { read_file_or_pipe(folder / "pipe", 100); }), HasSubstr("interrupted"));
  EXPECT_THAT(message_when_interrupted([&] { AtomicFile(folder / "pipe"); }), HasSubstr("interrupted"));
}

TEST(ReadFile, PipesAreReadOnlyIfAskedFor) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder / "pipe", 100); }),
              HasSubstr("pipe: is a pipe or a device, expected a regular file"));
  for (const size_t bytes : {0, 1, 4096, 100'000, 100'001}) {
    SCOPED_TRACE(bytes);
    std::thread writer([&] { write_whole(folder / "pipe", std::string(bytes, 'x')); });
    if (bytes <= 100'000)
      EXPECT_EQ(read_file_or_pipe(folder / "pipe", 100'000).size(), bytes);
    else
      EXPECT_THAT(message_of<InputError>([&] { read_file_or_pipe(folder / "pipe", 100'000); }),
                  HasSubstr("more than 100000 bytes"));
    writer.join();
  }
}

TEST(ReadFile, LargeMissingAndFolderPathsAreReported) {
  const TempFolder folder;
  write_text(folder.path() / "a", "12345");
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path() / "a", 4); }),
              HasSubstr("5 bytes, expected at most 4"));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path() / "b", 4); }), HasSubstr("cannot be read"));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path(), 4); }), HasSubstr("is a folder"));
}

}  // namespace file_test
}  // namespace tempo
