#include "observe/standard_streams.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <stdexcept>

#include "tempo/error.h"

namespace tempo::observe {
namespace standard_streams_test {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

void redirect(int stream, const char* file) {
  const int opened = open(file, O_WRONLY);
  dup2(opened, stream);
  close(opened);
}

void leave_without_reader(int stream) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  dup2(ends[1], stream);
}

/// Ends the process as a program's `main` does.
[[noreturn]] void end(const std::function<int()>& work) { std::_Exit(run_and_report("program", work)); }

TEST(StandardStreams, NoFileGetsTheNumberOfAClosedStream) {
  const auto open_with_closed = [](std::initializer_list<int> streams) {
    for (const int stream : streams) close(stream);
    open_standard_streams();
    std::_Exit(open("/dev/zero", O_RDONLY) > STDERR_FILENO ? 0 : 1);
  };
  EXPECT_EXIT(open_with_closed({0}), ExitedWithCode(0), "");
  EXPECT_EXIT(open_with_closed({1}), ExitedWithCode(0), "");
  EXPECT_EXIT(open_with_closed({0, 1, 2}), ExitedWithCode(0), "");
}

TEST(StandardStreams, OutputThatCannotBeWrittenIsAnErrorWithAReason) {
  const std::string says =
      "^program: standard output: cannot be written: No space left on device; what was printed "
      "there is lost\n$";
  EXPECT_EXIT(
      {
        redirect(STDOUT_FILENO, "/dev/full");
        end([] {
          print("{}\n", 1);
          return 0;
        });
      },
      ExitedWithCode(1), says);
  EXPECT_EXIT(
      {
        redirect(STDOUT_FILENO, "/dev/full");
        end([] {
          std::cout << "of a library\n";
          return 0;
        });
      },
      ExitedWithCode(1), says);
  EXPECT_EXIT(
      {
        redirect(STDOUT_FILENO, "/dev/full");
        end([] {
          print_text(std::string(1 << 20, 'x'));  // more than is kept back
          return 0;
        });
      },
      ExitedWithCode(1), says);
}

TEST(StandardStreams, AnErrorKeepsItsExitCodeIfOutputCannotBeWritten) {
  const auto refuse = []() -> int {
    print_text("result\n");
    throw AttestationError("refused");
  };
  EXPECT_EXIT(end(refuse), ExitedWithCode(4), "^program: refused\n$");
  EXPECT_EXIT(
      {
        redirect(STDOUT_FILENO, "/dev/full");
        end(refuse);
      },
      ExitedWithCode(4), "^program: refused\n$");
  EXPECT_EXIT(
      {
        redirect(STDERR_FILENO, "/dev/full");
        end(refuse);
      },
      ExitedWithCode(4), "");
  EXPECT_EXIT(
      {
        leave_without_reader(STDERR_FILENO);
        end(refuse);
      },
      ExitedWithCode(4), "");
}

TEST(StandardStreams, AProgramWithoutAReaderEndsSilently) {
  EXPECT_EXIT(
      {
        leave_without_reader(STDOUT_FILENO);
        end([] {
          print_text("result\n");
          return 0;
        });
      },
      KilledBySignal(SIGPIPE), "^$");
}

TEST(StandardStreams, AnErrorMessageIsOnePrintableLine) {
  EXPECT_EXIT(end([]() -> int { throw InputError("a\nb\x1b[2J: no such file"); }), ExitedWithCode(2),
              "^program: a.nb.x1b.2J: no such file\n$");
  EXPECT_EXIT(end([]() -> int { throw std::runtime_error("no memory\nframe #0\nframe #1"); }), ExitedWithCode(1),
              "^program: no memory\n$");
}

}  // namespace standard_streams_test
}  // namespace tempo::observe
