/// The subcommands of `tempo-bench`. Arguments are Google Benchmark's; what follows them is a benchmark's own.
#pragma once

namespace tempo::bench {

/// Blinding and un-blinding against memcpy of the same bytes.
int run_kernels(int argc, char** argv);
/// Registers, for `run_kernels`, the passes of what stays in the TEE.
void add_layer_benches();
/// The same of blinding with such passes taken along.
void add_fused_benches();
/// Sealed archives against libsodium alone and memcpy.
int run_seal(int argc, char** argv);
/// Verification of evidence, in milliseconds.
int run_attest(int argc, char** argv);
/// Transports against memcpy and a raw TCP connection over loopback.
int run_transport(int argc, char** argv);
/// Training in the TEE, in Tempo, and unprotected: runs the programs beside this one.
int run_train(int argc, char** argv);
/// One encoder block of growing width: CPU time in the TEE, local over Tempo.
int run_width(int argc, char** argv);
/// Serves masters with zeros, without computing: the worker of `train --worker instant`.
int run_instant_worker(int argc, char** argv);
/// One plain training on one device, with nothing hidden; what `train` compares with.
int run_plain(int argc, char** argv);
/// Prints two results that `--benchmark_out` wrote beside each other.
int run_compare(int argc, char** argv);

}  // namespace tempo::bench
