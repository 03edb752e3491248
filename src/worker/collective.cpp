#include "worker/collective.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "wire/host_port.h"
#include "wire/messages.h"

#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO  // hides the header's content otherwise; a 2.x does not always say it to those who use it
#endif
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#if defined(TEMPO_CUDA) && defined(USE_C10D_NCCL) && __has_include(<nccl.h>)
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#define TEMPO_NCCL
#endif

namespace tempo::worker {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Gloo = c10::intrusive_ptr<c10d::ProcessGroupGloo>;
/// Sums a tensor where it lies, on a GPU, until a deadline.
using GpuSum = std::function<void(const at::Tensor&, Clock::time_point)>;

/// How a member speaks with the others.
struct Lines {
  Gloo gloo;       ///< null: it is alone, or no more
  GpuSum gpu_sum;  ///< empty: sums go through Gloo
};

milliseconds until(Clock::time_point deadline) {
  return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
}

/// Who asked has given up: the others must not be led to believe that this member goes on.
void check_in_time(Clock::time_point deadline) {
  if (Clock::now() >= deadline) throw ProtocolError("too late");
}

/// TCPStore connects with a limit in whole seconds, rounded down: none would be left of less than one.
milliseconds in_seconds(milliseconds limit) { return std::chrono::ceil<std::chrono::seconds>(limit); }

/// c10d's calls have time limits for their steps, not for the whole: who stops waiting leaves them to end by
/// themselves.
class Strays {
 public:
  /// Runs `work`, which must own all that it uses, on a thread of its own. False if it is not done at the deadline: it
  /// goes on then. What it throws is thrown.
  bool run(std::function<void()> work, Clock::time_point deadline) {
    std::future<void> done = std::async(std::launch::async, [work = std::move(work)]() mutable {
      const auto once = std::move(work);  // or a stray would keep its tensors until the next one
      once();
    });
    if (done.wait_until(deadline) == std::future_status::ready) {
      done.get();
      return true;
    }
    const std::lock_guard lock(mutex_);
    std::erase_if(strays_,
                  [](const auto& stray) { return stray.wait_for(milliseconds(0)) == std::future_status::ready; });
    strays_.push_back(std::move(done));
    return false;
  }

 private:
  std::mutex mutex_;
  std::vector<std::future<void>> strays_;  // their destructors wait
};

// --- NCCL: never compiled nor run by those who wrote it, for want of GPUs ---

#ifdef TEMPO_NCCL
GpuSum make_gpu_sum(const c10::intrusive_ptr<c10d::Store>& store, const contract::JoinGroup& group,
                    milliseconds timeout) {
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  const auto nccl =
      c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                                  static_cast<int>(group.rank), static_cast<int>(group.size), options);
  return [nccl](const at::Tensor& tensor, Clock::time_point deadline) {
    std::vector<at::Tensor> tensors = {tensor};
    const auto work = nccl->allreduce(tensors);
    work->wait();  // orders the stream alone
    while (!work->isCompleted()) {
      if (Clock::now() > deadline) throw ProtocolError("it was silent");
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    if (!work->isSuccess()) std::rethrow_exception(work->exception());
  };
}
constexpr bool kHasNccl = true;
#else
GpuSum make_gpu_sum(const c10::intrusive_ptr<c10d::Store>&, const contract::JoinGroup&, milliseconds) { return {}; }
constexpr bool kHasNccl = false;
#endif

/// What tells a GPU from those of other members, since NCCL takes each only once. "cpu" where sums go through Gloo.
std::string place_of(const std::string& device) {
  char host[256] = {};
  if (!kHasNccl || device == "cpu" || gethostname(host, sizeof host - 1) != 0) return "cpu";
  return fmt::format("{} {}", host, device);
}

/// The same answer at every member.
bool are_different_gpus(std::vector<std::string> places) {
  std::sort(places.begin(), places.end());
  return std::find(places.begin(), places.end(), "cpu") == places.end() &&
         std::adjacent_find(places.begin(), places.end()) == places.end();
}

// --- One sum ---

constexpr int64_t kHeaderValues = 3 + static_cast<int64_t>(wire::kMaxDimensions);

/// Whether there is an operand, its type and shape: a row of values, and one of their negatives. Their maxima over the
/// group are negatives of each other only where all members have the same. (Gloo itself must not be given operands that
/// differ: it may end the process.)
at::Tensor header_of(const at::Tensor& operand) {
  at::Tensor header = at::zeros({2, kHeaderValues}, at::kLong);
  if (operand.defined()) {
    auto values = header.accessor<int64_t, 2>()[0];
    values[0] = 1;
    values[1] = operand.scalar_type() == at::kDouble ? 1 : 0;
    values[2] = operand.dim();
    for (int64_t i = 0; i < operand.dim(); ++i) values[3 + i] = operand.size(i);
  }
  header[1] = -header[0];
  return header;
}

void all_reduce(c10d::ProcessGroupGloo& gloo, const at::Tensor& tensor, c10d::ReduceOp::RedOpType operation) {
  std::vector<at::Tensor> tensors = {tensor};
  c10d::AllreduceOptions options;
  options.reduceOp = operation;
  gloo.allreduce(tensors, options)->wait();
}

/// One sum under way; shared with the thread that waits for the others, which may outlive whoever asked for it.
struct Sum {
  Lines lines;
  at::Tensor tensor;  ///< a copy; not defined where there is no operand
  Clock::time_point deadline;
  enum class Outcome { kSummed, kDiffers, kMissing } outcome = Outcome::kSummed;

  void run() {
    const torch::NoGradGuard no_grad;
    const at::Tensor header = header_of(tensor);
    all_reduce(*lines.gloo, header, c10d::ReduceOp::MAX);
    const bool all_have_one = header[1][0].item<int64_t>() == -1;
    const bool all_have_the_same = header[0].equal(-header[1]);
    outcome = !all_have_one ? Outcome::kMissing : all_have_the_same ? Outcome::kSummed : Outcome::kDiffers;
    check_in_time(deadline);
    if (outcome != Outcome::kSummed || tensor.numel() == 0) return;
    if (lines.gpu_sum)
      lines.gpu_sum(tensor, deadline);
    else
      all_reduce(*lines.gloo, tensor, c10d::ReduceOp::SUM);
  }
};

/// Not defined if it cannot be summed, whatever the reason: the others must learn of it, or would wait.
at::Tensor copy_on(const at::Device& device, const at::Tensor& operand) try {
  const bool can_be_summed = operand.defined() &&
                             (operand.scalar_type() == at::kFloat || operand.scalar_type() == at::kDouble) &&
                             operand.dim() <= static_cast<int64_t>(wire::kMaxDimensions);
  if (!can_be_summed) return {};
  return operand.to(operand.options().device(device), false, true, at::MemoryFormat::Contiguous);
} catch (const std::exception&) {  // out of memory
  return {};
}

ProtocolError refusal(const std::string& why) { return ProtocolError("worker: all_reduce refused: " + why); }

class GlooGroup final : public WorkerGroup {
 public:
  /// @param lines no Gloo in a group of one.
  GlooGroup(std::shared_ptr<Strays> strays, Lines lines, milliseconds timeout)
      : strays_(std::move(strays)), lines_(std::move(lines)), is_alone_(!lines_.gloo), timeout_(timeout) {}

  at::Tensor sum(const at::Tensor& operand) override {
    if (!lines_.gloo && !is_alone_) throw refusal("the group is over: a member was lost");
    const bool stays = lines_.gpu_sum && operand.defined();
    auto sum = std::make_shared<Sum>();
    sum->lines = lines_;
    sum->tensor = copy_on(stays ? operand.device() : at::Device(at::kCPU), operand);
    sum->deadline = Clock::now() + timeout_;
    if (!is_alone_)
      exchange(sum);
    else if (!sum->tensor.defined())
      sum->outcome = Sum::Outcome::kMissing;
    switch (sum->outcome) {
      case Sum::Outcome::kSummed:
        return sum->tensor.to(operand.device());
      case Sum::Outcome::kDiffers:
        throw refusal("the operand is {}, another member's has another shape or type", operand);
      case Sum::Outcome::kMissing:
        break;
    }
    if (!operand.defined()) throw refusal("the operand is not stored");
    if (!sum->tensor.defined()) throw refusal("the operand is {}, expected float32 or float64", operand);
    throw refusal("another member does not have its operand");
  }

 private:
  static ProtocolError refusal(fmt::format_string<std::string> why, const at::Tensor& operand) {
    const std::string type = c10::toString(operand.scalar_type());
    return worker::refusal(fmt::format(why, fmt::format("{}[{}]", type, fmt::join(operand.sizes(), ", "))));
  }
  static ProtocolError refusal(const std::string& why) { return worker::refusal(why); }

  void exchange(const std::shared_ptr<Sum>& sum) {
    std::string why = fmt::format("a member was silent for {} ms", timeout_.count());
    try {
      if (strays_->run([sum = sum]() mutable { std::exchange(sum, nullptr)->run(); }, sum->deadline)) return;
    } catch (const std::exception& error) {
      why = fmt::format("a member was lost: {}", observe::first_line(error.what()));
    }
    // Members may have got different far: another sum could be taken for the rest of this one.
    lines_ = {};
    throw refusal("the group is over: " + why);
  }

  const std::shared_ptr<Strays> strays_;
  Lines lines_;
  const bool is_alone_;
  const milliseconds timeout_;
};

// --- Finding each other ---

/// One joining of a group under way; shared as Sum is.
struct Joining {
  contract::JoinGroup group;
  wire::HostPort rendezvous;
  std::string own_host, device;
  milliseconds timeout{0};
  Clock::time_point deadline;
  std::atomic<const char*> failure = "the rendezvous did not answer";  // were it to fail now
  Lines lines;

  void run() {
    c10d::TCPStoreOptions tcp;
    tcp.port = rendezvous.port;
    tcp.waitWorkers = false;
    tcp.timeout = in_seconds(until(deadline));
    // The store is its own: the calls of one store wait for each other, and those of other sessions must not.
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        "tempo/" + group.group, c10::make_intrusive<c10d::TCPStore>(rendezvous.host, tcp));
    failure = "not all members came";
    const std::string place = place_of(device);
    store->set(here(group.rank), {place.begin(), place.end()});
    std::vector<std::string> all;
    for (uint32_t rank = 0; rank < group.size; ++rank) all.push_back(here(rank));
    store->wait(all, until(deadline));
    check_in_time(deadline);
    failure = "the members did not reach each other";
    const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(own_host));
    options->threads = 1;
    lines.gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, static_cast<int>(group.rank),
                                                             static_cast<int>(group.size), options);
    std::vector<std::string> places;
    for (const std::string& key : all) {
      const std::vector<uint8_t> value = store->get(key);
      places.emplace_back(value.begin(), value.end());
    }
    if (are_different_gpus(places)) lines.gpu_sum = make_gpu_sum(store, group, timeout);
  }

  static std::string here(uint32_t rank) { return fmt::format("here/{}", rank); }
};

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

class GlooCollective final : public Collective {
 public:
  explicit GlooCollective(const CollectiveOptions& options) : listen_(wire::parse_host_port(options.listen)) {
    for (const std::string& peer : options.peers)
      peers_.push_back(lower_case(wire::parse_host_port(wire::to_string({peer, 1})).host));
    if (wire::is_any_address(listen_.host))
      throw InputError(fmt::format(
          "--collective: got \"{}\", expected an address at which other workers reach this one", options.listen));
    timeout_ = options.timeout;
    try {
      c10d::ProcessGroupGloo::createDeviceForHostname(listen_.host);
      c10d::TCPStoreOptions tcp;
      tcp.isServer = true;
      tcp.waitWorkers = false;
      tcp.port = listen_.port;
      tcp.timeout = in_seconds(timeout_);
      server_ = c10::make_intrusive<c10d::TCPStore>(listen_.host, tcp);
      listen_.port = server_->getPort();
    } catch (const std::exception& error) {
      throw InputError(
          fmt::format("--collective: cannot listen at \"{}\": the port is in use, or the address is not of "
                      "this machine ({})",
                      options.listen, observe::first_line(error.what())));
    }
    if (address().size() > contract::kMaxCollectiveText)
      throw InputError("--collective: got an address that no message has room for");
  }

  [[nodiscard]] std::string address() const override { return wire::to_string(listen_); }

  std::unique_ptr<WorkerGroup> join(const contract::JoinGroup& group, const std::string& device) override {
    const wire::HostPort rendezvous = checked_rendezvous(group);
    if (group.size == 1) return std::make_unique<GlooGroup>(strays_, Lines{}, timeout_);
    const Clock::time_point deadline = Clock::now() + timeout_;
    auto joining = std::make_shared<Joining>();
    joining->group = group;
    joining->rendezvous = rendezvous;
    joining->own_host = listen_.host;
    joining->device = device;
    joining->timeout = timeout_;
    joining->deadline = deadline;
    std::string why;
    try {
      if (strays_->run([joining = joining]() mutable { std::exchange(joining, nullptr)->run(); }, deadline))
        return std::make_unique<GlooGroup>(strays_, std::move(joining->lines), timeout_);
    } catch (const std::exception& error) {
      why = fmt::format(" ({})", observe::first_line(error.what()));
    }
    throw refusal(
        fmt::format("{} within {} ms, in a group of {}{}", joining->failure.load(), timeout_.count(), group.size, why));
  }

 private:
  static ProtocolError refusal(const std::string& why) { return ProtocolError("worker: join_group refused: " + why); }

  /// A master must not make this worker connect to whatever it likes.
  [[nodiscard]] wire::HostPort checked_rendezvous(const contract::JoinGroup& group) const {
    wire::HostPort rendezvous;
    try {
      rendezvous = wire::parse_host_port(group.rendezvous);
    } catch (const InputError& error) {
      throw refusal(error.what());
    }
    const bool is_here = wire::to_string(rendezvous) == address();
    if (group.rank == 0 && !is_here) throw refusal("rank 0 has the rendezvous, but it is not this worker's address");
    if (!is_here && !is_peer(rendezvous.host))
      throw refusal("the host of the rendezvous is not one of this worker's peers (--collective-peer)");
    return rendezvous;
  }

  [[nodiscard]] bool is_peer(const std::string& host) const {
    if (peers_.empty()) return wire::is_loopback(host);
    return std::find(peers_.begin(), peers_.end(), lower_case(host)) != peers_.end();
  }

  wire::HostPort listen_;
  std::vector<std::string> peers_;
  milliseconds timeout_;
  c10::intrusive_ptr<c10d::TCPStore> server_;
  std::shared_ptr<Strays> strays_ = std::make_shared<Strays>();
};

}  // namespace

std::shared_ptr<Collective> make_collective(const CollectiveOptions& options) {
  return std::make_shared<GlooCollective>(options);
}

}  // namespace tempo::worker
