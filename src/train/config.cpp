#include "train/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#define TOML_HEADER_ONLY 0  // it is linked
#include <toml++/toml.h>
#include <algorithm>
#include <cctype>
#include <thread>

#include "base/file.h"
#include "base/text.h"
#include "integrity/policy.h"
#include "obfuscation/protection.h"
#include "tempo/error.h"
#include "train/machine_rates.h"

namespace tempo::train {
namespace {

template <typename Enum>
struct Choice {
  const char* name;
  Enum value;
};
template <typename Enum>
using Choices = std::vector<Choice<Enum>>;

const Choices<Coefficients> kCoefficients{{"positive-integer", Coefficients::kPositiveInteger},
                                          {"signed-real", Coefficients::kSignedReal}};
const Choices<Reuse> kReuses{
    {"full", Reuse::kFull}, {"split", Reuse::kSplit}, {"fresh", Reuse::kFresh}, {"none", Reuse::kNone}};
const Choices<WeightPlacement> kWeights{{"resident", WeightPlacement::kResident},
                                        {"returned", WeightPlacement::kReturned}};
const Choices<contract::ProductPrecision> kProducts{{"float32", contract::ProductPrecision::kFloat32},
                                                    {"tf32", contract::ProductPrecision::kTf32},
                                                    {"bf16", contract::ProductPrecision::kBFloat16}};
const Choices<ActivationStorage> kActivations{{"float32", ActivationStorage::kFloat32},
                                              {"bf16", ActivationStorage::kBFloat16}};
const Choices<WirePrecision> kWires{{"float32", WirePrecision::kFloat32}, {"bf16", WirePrecision::kBFloat16}};
const Choices<Optimizer> kOptimizers{{"sgd", Optimizer::kSgd}, {"adamw", Optimizer::kAdamW}};
const Choices<Schedule> kSchedules{{"cosine", Schedule::kCosine}, {"constant", Schedule::kConstant}};
const Choices<GradientSum> kGradientSums{{"master", GradientSum::kMaster}, {"workers", GradientSum::kWorkers}};
const Choices<OffloadChoice> kOffloads{{"auto", OffloadChoice::kAuto}, {"all", OffloadChoice::kAll}};

template <typename Enum>
std::string name_of(const Choices<Enum>& choices, Enum value) {
  for (const auto& choice : choices)
    if (choice.value == value) return choice.name;
  return "?";
}

[[noreturn]] void refuse(const std::string& field, const std::string& got, const std::string& expected) {
  throw InputError(fmt::format("{}: got \"{}\", expected {}", field, got, expected));
}

int64_t parse_integer(const std::string& field, const std::string& text, int64_t low, int64_t high) {
  const auto value = parse_decimal(text);
  if (!value || *value < low || *value > high)
    refuse(field, text, fmt::format("a whole number from {} to {}", low, high));
  return *value;
}

double parse_number(const std::string& field, const std::string& text, double low, double high) {
  const auto value = parse_real(text);
  if (!value || *value < low || *value > high) refuse(field, text, fmt::format("a number from {} to {}", low, high));
  return *value;
}

bool parse_boolean(const std::string& field, const std::string& text) {
  if (text == "true") return true;
  if (text == "false") return false;
  refuse(field, text, "true or false");
}

/// Builds the table; `member` picks the place in a RunConfig.
class Table {
 public:
  template <typename Member>
  void text(const char* name, Member member, const char* help) {
    fields.push_back({name, help, false, true,
                      [=](RunConfig& c, const std::string& v) {
                        check_text(v, name);
                        member(c) = v;
                      },
                      [member](const RunConfig& c) { return member(const_cast<RunConfig&>(c)); }});
  }
  template <typename Member>
  void integer(const char* name, Member member, int64_t low, int64_t high, const char* help) {
    fields.push_back({name, help, false, false,
                      [=](RunConfig& c, const std::string& v) {
                        using Type = std::remove_reference_t<decltype(member(c))>;
                        member(c) = static_cast<Type>(parse_integer(name, v, low, high));
                      },
                      [member](const RunConfig& c) { return fmt::format("{}", member(const_cast<RunConfig&>(c))); }});
  }
  /// An integer whose value 0 has a name of its own: conv-tile=full, row-rounds=auto.
  template <typename Member>
  void integer_or(const char* zero, const char* name, Member member, int64_t high, const char* help) {
    fields.push_back({name, help, false, false,
                      [=](RunConfig& c, const std::string& v) {
                        using Type = std::remove_reference_t<decltype(member(c))>;
                        if (v != zero && (v.empty() || v.find_first_not_of("0123456789") != std::string::npos))
                          refuse(name, v, fmt::format("{} or a whole number from 1 to {}", zero, high));
                        member(c) = v == zero ? Type{0} : static_cast<Type>(parse_integer(name, v, 1, high));
                      },
                      [=](const RunConfig& c) {
                        const auto value = member(const_cast<RunConfig&>(c));
                        return value == 0 ? std::string(zero) : fmt::format("{}", value);
                      }});
  }
  template <typename Member>
  void number(const char* name, Member member, double low, double high, const char* help) {
    fields.push_back({name, help, false, false,
                      [=](RunConfig& c, const std::string& v) { member(c) = parse_number(name, v, low, high); },
                      [member](const RunConfig& c) {
                        const auto value = member(const_cast<RunConfig&>(c));
                        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::optional<double>>)
                          return value ? fmt::format("{}", *value) : std::string();
                        else
                          return fmt::format("{}", value);
                      }});
  }
  template <typename Member>
  void boolean(const char* name, Member member, const char* help) {
    fields.push_back({name, help, true, false,
                      [=](RunConfig& c, const std::string& v) { member(c) = parse_boolean(name, v); },
                      [member](const RunConfig& c) { return member(const_cast<RunConfig&>(c)) ? "true" : "false"; }});
  }
  /// One of the names that `names` returns.
  template <typename Names, typename Member>
  void one_of(const char* name, const Names& names, Member member, const char* help) {
    fields.push_back({name, fmt::format("{} ({})", help, fmt::join(names(), "|")), false, true,
                      [=](RunConfig& c, const std::string& v) {
                        const auto known = names();
                        if (std::find(known.begin(), known.end(), v) == known.end())
                          refuse(name, v, fmt::format("{}", fmt::join(known, "|")));
                        member(c) = v;
                      },
                      [member](const RunConfig& c) { return member(const_cast<RunConfig&>(c)); }});
  }
  template <typename Enum, typename Member>
  void choice(const char* name, const Choices<Enum>& choices, Member member, const char* help) {
    std::string names;
    for (const auto& c : choices) names += (names.empty() ? "" : "|") + std::string(c.name);
    fields.push_back({name, fmt::format("{} ({})", help, names), false, true,
                      [=, &choices](RunConfig& c, const std::string& v) {
                        for (const auto& choice : choices)
                          if (v == choice.name) {
                            member(c) = choice.value;
                            return;
                          }
                        refuse(name, v, names);
                      },
                      [=, &choices](const RunConfig& c) {
                        const auto value = member(const_cast<RunConfig&>(c));
                        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::optional<Enum>>)
                          return value ? name_of(choices, *value) : std::string();
                        else
                          return name_of(choices, value);
                      }});
  }

  std::vector<Field> fields;
};

#define TEMPO_MEMBER(path) \
  [](RunConfig & c) -> auto& { return c.path; }

std::vector<Field> make_fields() {
  constexpr int64_t kMany = int64_t{1} << 40;
  Table t;
  t.text("model", TEMPO_MEMBER(model),
         "network: resnet20, resnet18, resnet34, resnet50, vgg16, vit_tiny, vit_small, ...");
  t.text("data", TEMPO_MEMBER(data), "folder of CIFAR-10 binaries, a sealed archive of one, or synthetic");
  t.text("data-key", TEMPO_MEMBER(data_key), "key file that opens sealed data");
  t.text("out", TEMPO_MEMBER(out), "run directory to make");
  t.text("init", TEMPO_MEMBER(init), "safetensors file of initial weights (public weights cannot be protected)");
  t.integer("epochs", TEMPO_MEMBER(epochs), 1, 1 << 24, "passes over the training images");
  t.integer("steps", TEMPO_MEMBER(steps), 0, kMany, "stop after so many steps; 0: as many as the epochs have");
  t.integer("batch-size", TEMPO_MEMBER(batch_size), 1, 1 << 20, "images a step");
  t.integer("train-size", TEMPO_MEMBER(train_size), 1, 10'000'000, "synthetic training images");
  t.integer("test-size", TEMPO_MEMBER(test_size), 1, 10'000'000, "synthetic test images");
  t.integer("image-size", TEMPO_MEMBER(image_size), 16, 256, "pixels a side of synthetic images");
  t.boolean("augment", TEMPO_MEMBER(augment), "random crops and mirror images");
  t.text("workers", TEMPO_MEMBER(workers),
         "local (no offload: the baseline), or workers, separated by commas: inprocess:, inprocess:cuda:0, shm://NAME, "
         "grpc://HOST:PORT (TLS), insecure://HOST:PORT; or file:PATH, with one a line");
  t.text("tls", TEMPO_MEMBER(tls), "folder of certificates for grpc://, from tempo keygen --tls");
  t.choice("gradient-sum", kGradientSums, TEMPO_MEMBER(gradient_sum),
           "who sums the gradients of resident weights over several workers");
  t.integer("worker-timeout", TEMPO_MEMBER(worker_timeout), 1, 1 << 20,
            "seconds; a worker whose reply takes longer is lost");
  t.integer("worker-wait", TEMPO_MEMBER(worker_wait), 0, 1 << 20, "seconds to wait for a worker where none is left");
  t.choice("offload", kOffloads, TEMPO_MEMBER(offload), "products that leave the TEE");
  t.text(
      "rates", TEMPO_MEMBER(rates),
      "speed of the TEE that offload=auto goes by: measured (once, then kept in ~/.cache/tempo), built-in, or figures "
      "as tempo plan prints them");
  t.one_of("protection", obfuscation::protection_names, TEMPO_MEMBER(blinding.protection), "scheme of the secret keys");
  t.choice("coefficients", kCoefficients, TEMPO_MEMBER(blinding.coefficients),
           "diagonal of permuted, which protects nobody");
  t.choice("reuse", kReuses, TEMPO_MEMBER(reuse), "how far blinded operands are used again");
  t.choice("weights", kWeights, TEMPO_MEMBER(weights), "whether weights stay on the worker");
  t.integer_or("full", "conv-tile", TEMPO_MEMBER(blinding.conv_tile), 1024, "side of a convolution tile, or full");
  t.integer_or("auto", "row-rounds", TEMPO_MEMBER(blinding.row_rounds), 8,
               "rounds of row mixing of oblique and rotated, or auto");
  t.integer_or("all", "row-group", TEMPO_MEMBER(blinding.row_group), 32'768,
               "rows that oblique and rotated mix with one another, a multiple of 256, or all");
  t.number(
      "decoys", TEMPO_MEMBER(decoys), 0, 100,
      "energy of noise images that oblique (default: 0, none) and rotated (default: 3) mix in, relative to the real "
      "ones");
  t.integer("rekey-interval", TEMPO_MEMBER(blinding.rekey_interval), 1, int64_t{1} << 31,
            "steps for which resident weights keep their keys");
  t.choice("wire", kWires, TEMPO_MEMBER(blinding.wire), "type of blinded activations");
  t.choice("products", kProducts, TEMPO_MEMBER(blinding.products), "what workers may round operands of products to");
  t.integer_or("auto", "slices", TEMPO_MEMBER(blinding.slices), 64,
               "parts of a batch that are on their way while others are blinded, or auto");
  t.boolean("allow-unprotected", TEMPO_MEMBER(allow_unprotected),
            "let protection=none or permuted start: workers can read all");
  t.text("integrity", TEMPO_MEMBER(integrity),
         "whether results of workers are verified: always, sampled:P (a share P of them), off");
  t.choice("activations", kActivations, TEMPO_MEMBER(activations), "type of what layers keep for the backward pass");
  t.choice("optimizer", kOptimizers, TEMPO_MEMBER(optimizer), "update rule");
  t.number("lr", TEMPO_MEMBER(lr), 0, 1e3, "peak learning rate");
  t.number("momentum", TEMPO_MEMBER(momentum), 0, 0.9999, "of sgd");
  t.number("weight-decay", TEMPO_MEMBER(weight_decay), 0, 1, "on weights of two dimensions and more");
  t.choice("schedule", kSchedules, TEMPO_MEMBER(schedule), "learning rate after warm-up");
  t.integer("warmup-steps", TEMPO_MEMBER(warmup_steps), 0, kMany, "steps of linear warm-up");
  t.number("label-smoothing", TEMPO_MEMBER(label_smoothing), 0, 0.999, "share of the target given to all classes");
  t.number("clip-norm", TEMPO_MEMBER(clip_norm), 0, 1e9, "largest norm of the whole gradient; 0: no clipping");
  t.integer("tee-threads", TEMPO_MEMBER(tee_threads), 0, 1024, "threads of the TEE, kept to as many CPUs; 0: all");
  t.integer("checkpoint-interval", TEMPO_MEMBER(checkpoint_interval), 0, kMany,
            "steps between checkpoints; 0: at the end of every epoch");
  t.text("key", TEMPO_MEMBER(key), "sealing key file; default: ~/.config/tempo/checkpoint.key, made at first use");
  t.text("metrics", TEMPO_MEMBER(metrics),
         "serve Prometheus metrics at http://HOST:PORT/metrics, in plain, to whoever reaches it (port 0: a free one)");
  t.text(
      "page", TEMPO_MEMBER(page),
      "show the run in a browser at http://HOST:PORT/, in plain, to whoever reaches it; PORT alone: on localhost (port "
      "0: a free one)");
  t.text("log", TEMPO_MEMBER(log), "append log lines, JSON objects, to FILE; -: to standard error");
  t.fields.push_back({"seed", "reproducible initial weights and data order; without it they are secret", false, false,
                      [](RunConfig& c, const std::string& v) {
                        c.seed = static_cast<uint64_t>(parse_integer("seed", v, 0, INT64_MAX));
                      },
                      [](const RunConfig& c) { return c.seed ? fmt::format("{}", *c.seed) : std::string(); }});
  return t.fields;
}

#undef TEMPO_MEMBER

std::string scalar_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return fmt::format("{}", integer->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
  return {};
}

}  // namespace

const std::vector<Field>& fields() {
  static const std::vector<Field> table = make_fields();
  return table;
}

Settings read_settings(const std::filesystem::path& file) {
  constexpr size_t kMaxConfigBytes = 1 << 20;
  return parse_settings(read_text_file_or_pipe(file, kMaxConfigBytes), file.string());
}

Settings parse_settings(const std::string& toml, const std::string& source) {
  check_text(toml, source);
  Settings settings;
  toml::table table;
  try {
    table = toml::parse(toml, source);
  } catch (const toml::parse_error& error) {
    throw InputError(
        fmt::format("{}: line {}: {}", source, error.source().begin.line, std::string(error.description())));
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const auto known = std::any_of(fields().begin(), fields().end(), [&](const Field& f) { return f.name == name; });
    if (!known) throw InputError(fmt::format("{}: unknown key \"{}\", expected the name of a flag", source, name));
    if (!node.is_value()) throw InputError(fmt::format("{}: key \"{}\" is not a plain value", source, name));
    settings[name] = scalar_text(node);
  }
  return settings;
}

void apply_settings(RunConfig& config, const Settings& settings, const std::string& origin) {
  for (const Field& field : fields()) {
    const auto given = settings.find(field.name);
    if (given == settings.end()) continue;
    try {
      field.set(config, given->second);
    } catch (const InputError& error) {
      throw InputError(origin + error.what());
    }
  }
}

std::string toml_line(const Field& field, const RunConfig& config) {
  const std::string value = field.get(config);
  if (value.empty()) return {};
  const bool is_name = std::isalpha(static_cast<unsigned char>(value.front())) != 0;  // of a zero: see integer_or
  if (!field.is_text && (field.is_switch || !is_name)) return fmt::format("{} = {}\n", field.name, value);
  std::ostringstream quoted;
  const toml::value<std::string> text(value);
  // The library would put control characters into a literal string as they are, where TOML does not have them.
  const bool has_control =
      std::any_of(value.begin(), value.end(), [](unsigned char c) { return c < ' ' || c == 0x7F; });
  quoted << toml::toml_formatter(text,
                                 has_control ? toml::format_flags::none : toml::format_flags::allow_literal_strings);
  return fmt::format("{} = {}\n", field.name, quoted.str());
}

std::string to_toml(const RunConfig& config) {
  std::string out;
  for (const Field& field : fields()) out += toml_line(field, config);
  return out;
}

void resolve(RunConfig& config) {
  for (const Field& field : fields())
    if (field.is_text) check_text(field.get(config), field.name);
  const bool is_offloaded = config.workers != "local";
  if (is_offloaded && !obfuscation::protects(config.blinding) && !config.allow_unprotected)
    throw InputError(fmt::format(
        "protection={}: workers can recover every weight and image; expected oblique, or the flag --allow-unprotected "
        "for measuring",
        config.blinding.protection));
  integrity::parse_policy(config.integrity);  // or it is refused
  tee_rates(config);

  BlindingOptions& blinding = config.blinding;
  BlindingOptions returned = blinding;
  returned.weights = WeightPlacement::kReturned;
  const auto protection = obfuscation::make_protection(returned);
  if (!config.decoys) config.decoys = protection->default_decoys();
  blinding.decoys = *config.decoys;
  if (!config.reuse) config.reuse = protection->default_reuse();
  blinding.reuse = returned.reuse = *config.reuse;
  const bool can_reside =
      protection->is_orthogonal() && blinding.reuse == Reuse::kFull && config.optimizer == Optimizer::kSgd;
  if (!config.weights) config.weights = can_reside ? WeightPlacement::kResident : WeightPlacement::kReturned;
  blinding.weights = *config.weights;
  if (blinding.weights == WeightPlacement::kResident && config.optimizer == Optimizer::kAdamW)
    throw InputError(
        "weights=resident with optimizer=adamw: AdamW is elementwise and does not commute with the keys; expected "
        "optimizer=sgd, or weights=returned");
  validate(blinding);
}

int tee_threads(const RunConfig& config) {
  return config.tee_threads > 0 ? config.tee_threads
                                : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::string operand_settings(const RunConfig& config) {
  RunConfig copy = config;
  copy.out = copy.key = copy.data_key = copy.workers = copy.tls = copy.integrity = copy.metrics = copy.page = copy.log =
      "";
  copy.tee_threads = 0;
  copy.blinding.slices = 0;
  copy.blinding.products = contract::ProductPrecision::kFloat32;
  copy.worker_timeout = copy.worker_wait = 0;
  copy.gradient_sum = GradientSum::kMaster;
  copy.checkpoint_interval = 0;
  copy.allow_unprotected = false;
  return to_toml(copy);
}

std::string to_string(Coefficients value) { return name_of(kCoefficients, value); }
std::string to_string(Reuse value) { return name_of(kReuses, value); }
std::string to_string(WeightPlacement value) { return name_of(kWeights, value); }
std::string to_string(WirePrecision value) { return name_of(kWires, value); }
std::string to_string(Optimizer value) { return name_of(kOptimizers, value); }

std::string describe(const BlindingOptions& o) {
  return fmt::format(
      "{} {} reuse={} weights={} conv-tile={} row-rounds={} row-group={} rekey-interval={} wire={} decoys={}",
      o.protection, to_string(o.coefficients), to_string(o.reuse), to_string(o.weights), o.conv_tile, o.row_rounds,
      o.row_group, o.rekey_interval, to_string(o.wire), o.decoys);
}

}  // namespace tempo::train
