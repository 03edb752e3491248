// tempo eval | predict | export | keygen: what is done with a finished run.
#include <fmt/format.h>

#include <memory>

#include "base/file.h"
#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "seal/key_file.h"
#include "seal/tls_certificates.h"
#include "tempo/error.h"
#include "tempo/run.h"

namespace tempo::apps {
namespace {

struct UseFlags {
  std::string run, data, data_key, images, out, key, format = "safetensors";

  void add_common(CLI::App& command) {
    command.add_option("--run", run, "run directory")->required()->type_name("DIR");
    command.add_option("--key", key, "sealing key file; default: ~/.config/tempo/checkpoint.key")->type_name("FILE");
  }
  void add_data_key(CLI::App& command) {
    command.add_option("--data-key", data_key, "key file that opens sealed data")->type_name("FILE");
  }
};

struct KeygenFlags {
  std::string out, tls;
  std::vector<std::string> hosts;
  int64_t days = seal::kDefaultCertificateDays;
};

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Test accuracy of a run's last checkpoint");
  auto flags = std::make_shared<UseFlags>();
  flags->add_common(*command);
  command->add_option("--data", flags->data,
                      "CIFAR-10 folder, sealed archive of one, or synthetic; default: what it was trained on");
  flags->add_data_key(*command);
  command->callback([flags] {
    const Evaluation result = run_evaluation(flags->run, flags->data, flags->key, flags->data_key);
    observe::print("{} images, accuracy {:.2f}%, loss {:.4f}\n", result.images, 100 * result.accuracy, result.loss);
  });
}

void add_predict(CLI::App& app) {
  auto* command = app.add_subcommand("predict", "Class and probability of every image in a CIFAR-10 binary file");
  auto flags = std::make_shared<UseFlags>();
  flags->add_common(*command);
  command
      ->add_option("--images", flags->images,
                   "CIFAR-10 binary file, or a sealed archive that holds one or a data set: then its test images")
      ->required()
      ->type_name("FILE");
  flags->add_data_key(*command);
  command->callback([flags] {
    for (const Prediction& p : run_prediction(flags->run, flags->images, flags->key, flags->data_key))
      observe::print("{}\t{}\t{:.4f}\n", p.image, p.label, p.probability);
  });
}

void add_export(CLI::App& app) {
  auto* command = app.add_subcommand("export", "Write the plain weights with torchvision's names");
  auto flags = std::make_shared<UseFlags>();
  flags->add_common(*command);
  command->add_option("--out", flags->out, "file, pipe or device to write; it is not sealed")
      ->required()
      ->type_name("FILE");
  command->add_option("--format", flags->format, "safetensors");
  command->callback([flags] {
    if (flags->format != "safetensors")
      throw InputError(fmt::format("--format: got \"{}\", expected safetensors", flags->format));
    export_run(flags->run, flags->out, flags->key);
    const std::string wrote = fmt::format("wrote {}\n", flags->out);
    if (is_standard_output(flags->out))
      observe::note_text(wrote);
    else
      observe::print_text(wrote);
  });
}

void add_keygen(CLI::App& app) {
  auto* command = app.add_subcommand("keygen", "Make a sealing key, or certificates for workers on other machines");
  auto flags = std::make_shared<KeygenFlags>();
  auto* what = command->add_option_group("what", "What to make");
  what->add_option("--out", flags->out, "key file to make")->type_name("FILE");
  auto* tls = what->add_option("--tls", flags->tls, "folder of certificates to make, for grpc://")->type_name("DIR");
  what->require_option(1);
  command->add_option("--host", flags->hosts, "name or address of a worker's machine; may repeat")
      ->needs(tls)
      ->type_name("NAME");
  command->add_option("--days", flags->days, "how long the certificates of worker and master are valid")
      ->needs(tls)
      ->check(Number::whole(1, seal::kMaxCertificateDays))
      ->capture_default_str();
  command->callback([flags] {
    if (!flags->tls.empty()) {
      seal::create_tls_certificates(flags->tls, flags->hosts, flags->days);
      observe::print(
          "made certificates in {0}; a worker needs ca.pem, worker.pem and worker.key, the master ca.pem, "
          "master.pem and master.key; keep ca.key away from both\n",
          flags->tls);
      return;
    }
    seal::create_key(flags->out);
    observe::print("made key {} in {}\n", seal::key_id(seal::load_key(flags->out)), flags->out);
  });
}

}  // namespace tempo::apps
