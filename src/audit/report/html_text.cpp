#include "audit/report/html_parts.h"

namespace tempo::audit::html {

const std::string_view kStyle = R"css(
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --box: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181c; --ink: #e6e9ec; --soft: #a2abb5; --line: #3a424b; --box: #1e2328; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p, ul, dl { max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.verdict { border: 1px solid var(--line); border-left: .5rem solid #7f7f7f; background: var(--box);
  padding: .75rem 1rem; border-radius: 4px; }
.verdict.good { border-left-color: #009e73; }
.verdict.bad { border-left-color: #d55e00; }
.verdict .headline { font-size: 1.1rem; font-weight: 600; margin: 0 0 .5rem; }
.verdict p, .verdict ul { max-width: none; margin: .4rem 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: .85em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .75rem 0; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; font-size: .8125rem; line-height: 1.3; width: 100%; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; background: var(--box); font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 400; min-width: 9rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.heat td { text-align: center; min-width: 4.6rem; border-left: 1px solid var(--line); }
.heat thead th { min-width: 4.6rem; overflow-wrap: break-word; }
.heat td small { display: block; color: inherit; opacity: .8; font-size: .7rem; white-space: nowrap; }
.heat td.none { color: var(--soft); font-size: .75rem; }
.beaten { font-weight: 700; text-decoration: underline; text-underline-offset: 2px; }
.key span { display: inline-block; padding: .1rem .6rem; border: 1px solid var(--line); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: .75rem 0; min-width: 0; }
code.command { display: block; max-height: 8em; overflow-y: auto; }
figure .scroll { border: 0; margin: 0; }
svg { display: block; width: 100%; min-width: 30rem; height: auto; }
details { margin: .25rem 0; border: 1px solid var(--line); border-radius: 4px; padding: .35rem .75rem; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
  body { padding: .75rem; }
}
@media print {
  :root { --page: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --box: #f4f4f4; }
  @page { size: A4 landscape; margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .scroll { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: 2pt 3pt; }
  .heat td, .heat thead th, tbody th { min-width: 0; }
  tr, figure, .verdict { break-inside: avoid; }
  thead { display: table-header-group; }
  details.attack::details-content { content-visibility: visible; block-size: auto; }
  details.all { display: none; }
  svg { min-width: 0; }
}
)css";

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
