#include "offload/transport/shm.h"

#include <thread>

#include "base/cpu_time.h"
#include "offload/transport/shm_connection.h"

namespace tempo::offload {
namespace {

class ShmWorker final : public Worker {
 public:
  ShmWorker(const std::string& name, const ShmOptions& options)
      : connection_(std::make_shared<ShmConnection>(name, options)), receiving_([this] {
          name_this_thread("tempo-shm");
          connection_->receive_all();
        }) {}

  ~ShmWorker() override {
    connection_->close();
    receiving_.join();
  }

  WorkerDescription describe() override {
    const wire::Welcome& welcome = connection_->welcome();
    return {.name = connection_->uri(),
            .device = welcome.device,
            .version = welcome.version,
            .memory_bytes = welcome.memory_bytes,
            .collective = welcome.collective};
  }
  Buffer allocate(const TensorSpec& spec) override { return connection_->allocate(spec); }
  void put(OperandId id, Buffer operand) override { connection_->put(id, std::move(operand)); }
  void free(std::vector<OperandId> ids) override { connection_->free(std::move(ids)); }
  std::future<Buffer> submit(Operation operation) override { return connection_->submit(std::move(operation)); }

 private:
  std::shared_ptr<ShmConnection> connection_;
  std::thread receiving_;  // last: it uses the connection
};

}  // namespace

std::shared_ptr<Worker> make_shm_worker(const std::string& name, const ShmOptions& options) {
  return std::make_shared<ShmWorker>(name, options);
}

}  // namespace tempo::offload
