/// The subcommands of `tempo-bench`. Arguments are Google Benchmark's; what follows them is a benchmark's own.
#pragma once

namespace tempo::bench {

/// Blinding and un-blinding against memcpy of the same bytes.
int run_kernels(int argc, char** argv);
/// Transports against memcpy and a raw TCP connection over loopback.
int run_transport(int argc, char** argv);

}  // namespace tempo::bench
