/// The master's end of one `shm://` session: operations under way, memory in use, and loss of the worker.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "offload/transport/shm.h"
#include "offload/transport/shm_memory.h"
#include "wire/messages.h"
#include "wire/shm_channel.h"

namespace tempo::offload {

/// Thread-safe. Lives as long as the worker's handle and every buffer that it returned.
class ShmConnection : public std::enable_shared_from_this<ShmConnection> {
 public:
  /// @throws as make_shm_worker.
  ShmConnection(const std::string& name, const ShmOptions& options);

  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] const wire::Welcome& welcome() const { return welcome_; }

  Buffer allocate(const TensorSpec& spec);
  void put(OperandId id, Buffer operand);
  void free(std::vector<OperandId> ids);
  std::future<Buffer> submit(Operation operation);

  /// Handles everything the worker sends, until the worker or `close` ends the session. Runs on its own thread.
  void receive_all();
  void close();

 private:
  wire::Welcome greet();
  void send(const wire::ClientMessage& message);
  /// Where the buffer lies in the segment, if it is aligned and within memory that `allocate` returned.
  std::optional<uint64_t> offset_of(const Buffer& operand) const;

  void handle(const wire::Welcome&);
  void handle(const wire::Chunk&);
  void handle(const wire::Reply& reply);
  void handle(const wire::Refusal& refusal);
  void handle(const wire::Goodbye& goodbye);
  void handle(const wire::Freed& freed);

  std::promise<Buffer> take(uint64_t number);
  Buffer accept(const wire::Reply& reply);
  void release_reply(uint64_t offset) noexcept;
  void flush_releases();

  /// Ends the session. The first reason is kept; `pending_error` is what waiting futures throw (default:
  /// WorkerLostError).
  void lose(const std::string& reason, std::exception_ptr pending_error = nullptr);
  void throw_if_lost() const;

  const std::string uri_;
  const ShmOptions options_;
  wire::UniqueDescriptor socket_;
  std::unique_ptr<wire::ShmSegment> segment_;
  std::unique_ptr<wire::ShmChannel> channel_;
  std::unique_ptr<ShmOperands> operands_;
  std::unique_ptr<ShmReplies> replies_;
  wire::Welcome welcome_;

  std::mutex submit_mutex_;  // keeps operations in the order of their numbers
  uint64_t next_number_ = 1;

  std::mutex release_mutex_;
  std::vector<uint64_t> unsent_releases_;

  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::unordered_map<uint64_t, std::promise<Buffer>> pending_;
  std::string lost_;  // why the session ended; empty while it lives
};

}  // namespace tempo::offload
