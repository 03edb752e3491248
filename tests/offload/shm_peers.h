/// What tests of the shm:// transport need to play a peer by hand.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "offload/transport/shm.h"
#include "wire/messages.h"
#include "wire/shm_channel.h"

namespace tempo::testing {

inline constexpr std::chrono::seconds kLong{60};
inline constexpr std::chrono::milliseconds kForever{-1};

/// So patient that only a real loss ends the wait.
inline const offload::ShmOptions kPatient = {.connect = kLong, .memory = kLong, .stall = kLong};

/// A name of its own for every server of every test run.
inline std::string new_shm_name() {
  static int count = 0;
  return "tempo-test-" + std::to_string(getpid()) + "-" + std::to_string(++count);
}

inline void say_to_master(wire::ShmChannel& channel, const wire::ServerMessage& message) {
  channel.send(wire::encode(message), kLong);
}
inline void say_to_worker(wire::ShmChannel& channel, const wire::ClientMessage& message) {
  channel.send(wire::encode(message), kLong);
}

}  // namespace tempo::testing
