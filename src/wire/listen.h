/// TCP sockets that listen: for workers, the page of metrics and the job service.
#pragma once

#include <string_view>

#include "wire/descriptor.h"
#include "wire/host_port.h"

namespace tempo::wire {

/// Takes the IPv4 address of a name that has both kinds: what says "localhost" mostly connects there.
/// @param purpose begins the message: "metrics". @returns a socket that is non-blocking and closed on exec.
/// @throws InputError "PURPOSE: cannot listen at HOST:PORT: REASON".
UniqueDescriptor listen_tcp(std::string_view purpose, const HostPort& address);

/// The port of a TCP socket that listens, which the kernel chose where 0 was asked for.
uint16_t port_of(const UniqueDescriptor& listening);

}  // namespace tempo::wire
