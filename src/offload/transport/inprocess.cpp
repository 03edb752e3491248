#include "offload/transport/inprocess.h"

#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/cpu_time.h"
#include "tempo/error.h"
#include "worker/executor.h"

namespace tempo::offload {
namespace {

class InprocessWorker final : public Worker {
 public:
  InprocessWorker(const std::string& device, int threads)
      : device_(device), executor_(std::make_unique<worker::Executor>(device)), thread_([this, threads] {
          // OpenMP teams started here inherit the name; the CPU time of both counts as the worker's, not the TEE's.
          name_this_thread(kWorkerThreadName);
          worker::Executor::set_threads(threads);
          serve();
        }) {}

  ~InprocessWorker() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ready_.notify_one();
    thread_.join();
  }

  WorkerDescription describe() override {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    return {.name = "inprocess:",
            .device = device_,
            .version = worker::Executor::version(),
            .memory_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes),
            .collective = {}};
  }

  Buffer allocate(const TensorSpec& spec) override { return Buffer::allocate(spec); }

  void put(OperandId id, Buffer operand) override {
    enqueue([this, id, operand = std::move(operand)] {
      try {
        if (const worker::Completion copied = executor_->put(id, operand)) copied();
      } catch (const std::exception& error) {
        // For example, out of device memory. A put has no reply: the operations that need the operand will fail.
        put_failure_ = error.what();
      }
    });
  }

  void free(std::vector<OperandId> ids) override {
    enqueue([this, ids = std::move(ids)] { executor_->free(ids); });
  }

  std::future<Buffer> submit(Operation operation) override {
    auto task = std::make_shared<std::packaged_task<Buffer()>>([this, operation = std::move(operation)] {
      if (!put_failure_.empty())
        throw ProtocolError("inprocess: the worker could not store an operand: " + put_failure_);
      return executor_->run(operation);
    });
    auto future = task->get_future();
    enqueue([task] { (*task)(); });
    return future;
  }

 private:
  void enqueue(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    ready_.notify_one();
  }

  void serve() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        ready_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  std::string device_;
  std::unique_ptr<worker::Executor> executor_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::string put_failure_;  // used by the worker's thread alone
  std::thread thread_;       // last: the thread uses everything above
};

}  // namespace

std::shared_ptr<Worker> make_inprocess_worker(const std::string& device, int threads) {
  return std::make_shared<InprocessWorker>(device, threads);
}

}  // namespace tempo::offload
