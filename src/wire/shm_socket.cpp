#include "wire/shm_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <thread>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kPrefix = "tempo-shm/";
constexpr std::string_view kGreeting = "TEMPOSHM";  // comes with the segment; every other text is a refusal
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxRefusalBytes = 512;
constexpr int kBacklog = 8;
constexpr milliseconds kRetryInterval{20};

struct Address {
  sockaddr_un address = {};
  socklen_t bytes = 0;

  explicit Address(const std::string& name) {
    const bool is_plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return c < 128 && (std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_');
    });
    if (name.empty() || name.size() > kMaxNameBytes || !is_plain)
      throw InputError(fmt::format("shm: got a name of {} characters, expected 1 to {} letters, digits, . - or _",
                                   name.size(), kMaxNameBytes));
    const std::string path = std::string(kPrefix) + name;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, path.data(), path.size());  // the zero in front makes it abstract
    bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

UniqueDescriptor new_socket() {
  UniqueDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) throw RunError(fmt::format("shm: no Unix socket: {}", std::strerror(errno)));
  return socket;
}

/// Room for one descriptor. The kernel closes what does not fit.
union Ancillary {
  cmsghdr alignment;
  char bytes[CMSG_SPACE(sizeof(int))];
};

/// One packet and the descriptor that came with it, if any.
struct Packet {
  std::string text;
  UniqueDescriptor file;
  bool is_cut = false;
};

Packet receive_packet(const UniqueDescriptor& socket) {
  char text[kMaxRefusalBytes];
  Ancillary ancillary = {};
  iovec part = {text, sizeof text};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.bytes;
  message.msg_controllen = sizeof ancillary.bytes;
  const ssize_t bytes = recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (bytes <= 0) throw WorkerLostError("shm: the worker closed the connection before it sent a segment");
  Packet packet = {.text = std::string(text, static_cast<size_t>(bytes)), .file = {}, .is_cut = false};
  packet.is_cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int file = -1;
    std::memcpy(&file, CMSG_DATA(header), sizeof file);
    packet.file = UniqueDescriptor(file);
  }
  return packet;
}

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

bool send_packet(const UniqueDescriptor& socket, std::string_view text, const msghdr& ancillary) {
  msghdr message = ancillary;
  iovec part = {const_cast<char*>(text.data()), text.size()};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(text.size());
}

}  // namespace

UniqueDescriptor listen_shm(const std::string& name) {
  const Address address(name);
  UniqueDescriptor socket = new_socket();
  if (bind(socket.get(), address.get(), address.bytes) != 0) {
    if (errno == EADDRINUSE) throw InputError(fmt::format("shm://{} is served by another process already", name));
    throw RunError(fmt::format("shm://{}: cannot bind: {}", name, std::strerror(errno)));
  }
  if (listen(socket.get(), kBacklog) != 0)
    throw RunError(fmt::format("shm://{}: cannot listen: {}", name, std::strerror(errno)));
  return socket;
}

UniqueDescriptor connect_shm(const std::string& name, milliseconds patience) {
  const Address address(name);
  const auto deadline = steady_clock::now() + patience;
  for (;;) {
    UniqueDescriptor socket = new_socket();
    if (connect(socket.get(), address.get(), address.bytes) == 0) return socket;
    if (steady_clock::now() >= deadline)
      throw WorkerLostError(
          fmt::format("shm://{}: no worker listens there ({}); expected tempo-worker --listen shm://{} on this machine",
                      name, std::strerror(errno), name));
    std::this_thread::sleep_for(kRetryInterval);
  }
}

void check_shm_peer(const UniqueDescriptor& socket) {
  ucred peer = {};
  socklen_t bytes = sizeof peer;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 || (peer.uid != 0 && peer.uid != geteuid()))
    throw ProtocolError("shm: the peer belongs to another user, expected this one or root");
}

bool send_shm_file(const UniqueDescriptor& socket, const UniqueDescriptor& file) {
  Ancillary ancillary = {};
  msghdr message = {};
  message.msg_control = ancillary.bytes;
  message.msg_controllen = sizeof ancillary.bytes;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int descriptor = file.get();
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return send_packet(socket, kGreeting, message);
}

bool send_shm_refusal(const UniqueDescriptor& socket, const std::string& reason) {
  return send_packet(socket, std::string_view(reason).substr(0, kMaxRefusalBytes), msghdr{});
}

UniqueDescriptor receive_shm_file(const UniqueDescriptor& socket, milliseconds patience) {
  pollfd event = {.fd = socket.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = poll(&event, 1, static_cast<int>(patience.count()));
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) throw WorkerLostError("shm: the worker did not send a segment in time");
  Packet packet = receive_packet(socket);
  if (packet.is_cut) throw ProtocolError("shm: the worker's first packet is too long, expected one file");
  if (packet.text != kGreeting)
    throw WorkerLostError("shm: the worker refused the connection: " + printable(packet.text));
  if (!packet.file) throw ProtocolError("shm: the worker's first packet has no segment, expected one file");
  return std::move(packet.file);
}

void ring_doorbell(const UniqueDescriptor& socket) {
  const char bell = 0;
  // A full socket rings already; a broken one is found by whoever waits.
  [[maybe_unused]] const ssize_t sent = send(socket.get(), &bell, sizeof bell, MSG_NOSIGNAL | MSG_DONTWAIT);
}

Wakeup wait_for_doorbell(const UniqueDescriptor& socket, milliseconds patience) {
  pollfd event = {.fd = socket.get(), .events = POLLIN | POLLRDHUP, .revents = 0};
  const int ready = poll(&event, 1, patience.count() < 0 ? -1 : static_cast<int>(patience.count()));
  if (ready == 0) return Wakeup::kTimeout;
  if (ready < 0) return errno == EINTR ? Wakeup::kDoorbell : Wakeup::kPeerGone;
  char bells[64];
  for (;;) {
    const ssize_t bytes = recv(socket.get(), bells, sizeof bells, MSG_DONTWAIT);
    if (bytes > 0) continue;
    if (bytes < 0 && errno == EINTR) continue;
    return bytes < 0 && errno == EAGAIN ? Wakeup::kDoorbell : Wakeup::kPeerGone;
  }
}

bool is_peer_gone(const UniqueDescriptor& socket) {
  pollfd event = {.fd = socket.get(), .events = POLLRDHUP, .revents = 0};
  return poll(&event, 1, 0) != 0 && (event.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace tempo::wire
