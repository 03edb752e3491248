#include "integrity/policy.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::integrity {
namespace policy_test {

TEST(Policy, ParsePolicyReadsWhatToStringWrites) {
  for (const char* text : {"off", "always", "sampled:0.25", "sampled:1"})
    EXPECT_EQ(to_string(parse_policy(text)), text);
}

TEST(Policy, ParsePolicyRefusesOtherText) {
  for (const char* text :
       {"", "on", "sampled", "sampled:", "sampled:0", "sampled:1.5", "sampled:-1", "sampled:nan", "sampled:0.5x"})
    EXPECT_THROW(parse_policy(text), InputError) << text;
}

}  // namespace policy_test
}  // namespace tempo::integrity
