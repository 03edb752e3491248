#include "audit/report/html_parts.h"

namespace tempo::audit::html {

const std::string_view kHowToRead = R"html(
<p>Each cell says how well one attack did under one setting: the worst case over the recorded layers. The large number
is the score, from 0 to 1, where 1 is full recovery. The small number is chance: what the same attack gets from
guessing. Only the distance between the two matters, so the colour shows the score's way from chance to full
recovery:</p>
<p class="key"><span style="background:rgba(213,94,0,0.00)">at chance</span><span
 style="background:rgba(213,94,0,0.20)">a quarter</span><span
 style="background:rgba(213,94,0,0.40)">half</span><span
 style="background:rgba(213,94,0,0.75)">full recovery</span></p>
<ul>
<li>A score that beats chance is <span class="beaten">underlined and bold</span>: it lies more than five standard
deviations of guessing, and more than 0.02, above chance. Among a thousand scores at chance, one or two do so by
accident.</li>
<li><b>n/a</b>: the attack has nothing to work on in any recorded layer under this setting.</li>
<li><b>not run</b>: not measured, which is no good news.</li>
<li>Point at a cell to see the layer, what the score counts, and a note. All of it is in the table at the end, too.</li>
</ul>
)html";

const std::string_view kLimits = R"html(
<ul>
<li>An attack at chance is an attack that failed here, not a proof. A better attack may exist; only the listed ones were
tried.</li>
<li>One model on one data set, and so many recorded steps. Larger figures of steps are extrapolations.</li>
<li>Some scores let an oracle choose the order or the signs of channels for the attacker: these are upper bounds.</li>
<li>Public initial weights: fine-tuning from weights that the attacker knows is outside what permuted or rotated keys
can protect. The table for a public start shows what is left.</li>
<li>Never hidden: the shapes of layers, the batch size, the number of steps, and timing.</li>
<li>Not attacked here: physical probes on the memory bus, side channels of the processor, patterns of memory access
inside the trusted environment, attestation, stored files, and the network.</li>
<li>What a trained model gives away by its answers, or by being published, is the same with any training method.</li>
<li>A worker can always refuse to work. Wrong results are the subject of the section on tampering only.</li>
</ul>
)html";

}  // namespace tempo::audit::html
