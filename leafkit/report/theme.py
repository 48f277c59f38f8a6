"""The style sheet of the HTML report: system fonts, light and dark, one column on a phone."""

from __future__ import annotations

_PALETTES = {
    "light": {
        "paper": "#fcfbf8",
        "card": "#ffffff",
        "ink": "#1d211f",
        "soft": "#5c6460",
        "rule": "#e2dfd6",
        "grid": "#e9e6de",
        "pass": "#1f6b43",
        "pass-back": "#e3f1e8",
        "fail": "#a3301f",
        "fail-back": "#fae7e3",
        "open": "#6b5a1e",
        "open-back": "#f4eed9",
        "tone-1": "#34446b",
        "tone-2": "#3b8ea5",
        "tone-3": "#2e7d4f",
        "tone-4": "#b0762b",
        "tone-5": "#8a8a83",
        "tone-6": "#8a5a83",
        "tone-7": "#b4513f",
        "tone-8": "#5f7d1e",
    },
    "dark": {
        "paper": "#141715",
        "card": "#1b1f1d",
        "ink": "#e7e9e4",
        "soft": "#a2aaa4",
        "rule": "#313733",
        "grid": "#2a2f2c",
        "pass": "#8bd6a8",
        "pass-back": "#1d3527",
        "fail": "#f3a594",
        "fail-back": "#42211b",
        "open": "#dfcb8a",
        "open-back": "#37311c",
        "tone-1": "#a3b3de",
        "tone-2": "#63b9d1",
        "tone-3": "#64c08a",
        "tone-4": "#dba45a",
        "tone-5": "#8f958f",
        "tone-6": "#c795bf",
        "tone-7": "#ea9180",
        "tone-8": "#b0cb66",
    },
}
NUM_TONES = 8
_DASHES = {2: "7 4", 4: "2 3", 5: "9 3 2 3", 6: "5 2", 7: "12 3", 8: "1 3"}

_RULES = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;overflow-wrap:anywhere}
main{max-width:1160px;margin:0 auto;padding:clamp(20px,5vw,56px) clamp(16px,4vw,40px) 72px}
h1,h2,h3,.lede{font-family:ui-serif,Charter,"Iowan Old Style",Georgia,serif;font-weight:600;line-height:1.2;text-wrap:balance}
h1{font-size:clamp(1.7rem,5vw,2.5rem);margin:.1em 0 .5em;letter-spacing:-.01em}
h2{font-size:1.55rem;margin:0 0 .5em}
h3{font-size:1.12rem;margin:0}
h4{font-size:.76rem;margin:0 0 .5em;color:var(--soft);text-transform:uppercase;letter-spacing:.08em}
p{margin:0 0 .8em;max-width:72ch}
a{color:inherit;text-decoration-color:var(--rule);text-underline-offset:.25em}
a:hover{text-decoration-color:currentColor}
:focus-visible{outline:2px solid var(--tone-3);outline-offset:2px}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:12px 14px;overflow-x:auto;
 overflow-wrap:normal;margin:0 0 1em}
.eyebrow{color:var(--soft);font-size:.85rem;margin:0}
.lede{font-weight:400;font-size:clamp(1.12rem,2.6vw,1.38rem);line-height:1.42;max-width:62ch;text-wrap:pretty}
.note,figcaption{color:var(--soft);font-size:.88rem}
nav{margin:1.6em 0 0;padding:.7em 0;border-block:1px solid var(--rule);font-size:.88rem;
 display:flex;flex-wrap:wrap;gap:.35em 1.2em}
section{margin-top:56px;scroll-margin-top:16px}
.tiles{display:flex;flex-wrap:wrap;gap:1px;background:var(--rule);
 border:1px solid var(--rule);border-radius:8px;overflow:hidden;margin:1.8em 0 0}
.tile{background:var(--card);padding:14px 14px 12px;flex:1 1 122px;min-width:min-content}
.tile b{display:block;white-space:nowrap;font-size:1.5rem;line-height:1.2;font-weight:600;
 font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.tile span{display:block;color:var(--soft);font-size:.82rem;line-height:1.35}
.pair{display:grid;align-items:start;gap:28px 44px;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
.pair>*{min-width:0}
.pair.tight{gap:20px 32px}
figure{margin:.6em 0 1.1em}
.chart{display:block;width:100%;max-width:560px;height:auto;overflow:visible}
.chart text{font-size:12px;fill:var(--ink);font-variant-numeric:tabular-nums}
.chart .tick{fill:var(--soft);font-size:11px}
.chart .small{font-size:10px}
.chart .value{font-weight:600}
.grid{stroke:var(--grid)}
.axis{stroke:var(--soft)}
.whisker{stroke:var(--ink);stroke-width:1.5}
.halo{stroke:var(--paper);stroke-width:3.6}
.dots{fill-opacity:.62}
.beaten>*{fill-opacity:.28}
.chart .thin{stroke-width:1.4;stroke-dasharray:none;stroke-opacity:.75}
.key{display:grid;gap:.2em 2em;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));
 font-size:.88rem;max-width:none}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em}
.kind{font:600 .7rem/1 system-ui,sans-serif;text-transform:uppercase;letter-spacing:.07em;color:var(--soft);
 border:1px solid var(--rule);border-radius:3px;padding:.2em .45em;vertical-align:.15em}
.group th{padding-top:1em;color:var(--soft);font-size:.76rem;text-transform:uppercase;letter-spacing:.07em}
.split{display:grid;gap:4px 32px;align-items:start;margin-top:1.8em;
 grid-template-columns:minmax(0,1fr)}
.split>*{min-width:0}
@media (min-width:900px){.split{grid-template-columns:minmax(0,350px) minmax(0,1fr)}}
.split td,.split th{padding-right:.75em}
.matrix .scroll{margin-bottom:.4em}
.matrix td,.matrix th{padding-right:.5em}
.findings{padding-left:1.2em;max-width:76ch}
.findings li{margin:.3em 0}
.collection{margin-top:2em}
.runs{margin:1.4em 0 0;padding:0;list-style:none;display:grid;gap:1em 2em;
 grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.runs p{margin:.2em 0 0}
.lost{margin:0;border-top:1px solid var(--rule)}
.lost[open]{padding-bottom:.8em}
.lost summary .score{white-space:nowrap;font-size:.82rem}
.kept{white-space:normal;min-width:9em}
.run{display:inline-block;white-space:normal;min-width:7em;max-width:14em}
.scroll{overflow-x:auto;margin:0 0 1em;border-block:1px solid var(--rule)}
table{border-collapse:collapse;width:100%;font-size:.86rem;overflow-wrap:normal}
th,td{padding:.42em .9em .42em 0;text-align:left;vertical-align:baseline;font-weight:400;white-space:nowrap}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--soft);font-size:.78rem;vertical-align:bottom}
tbody tr{border-top:1px solid var(--rule)}
tbody th{font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums}
small{display:block;color:var(--soft);font-size:.82em;font-weight:400;line-height:1.3}
tbody th small{white-space:normal}
.badge{display:inline-block;border-radius:4px;padding:.05em .5em;font-size:.82rem;font-weight:600}
.pass{color:var(--pass);background:var(--pass-back)}
.fail{color:var(--fail);background:var(--fail-back)}
.open{color:var(--open);background:var(--open-back)}
.outcome .badge{font-size:1rem;padding:.3em .8em}
.meter{display:block;height:10px;min-width:1px;border-radius:2px;background:var(--tone-3)}
#steps td:last-child{width:50%;min-width:110px;vertical-align:middle}
#models td,#texts td:last-child{white-space:normal;min-width:14em}
.sample{border-top:1px solid var(--rule);padding:18px 0 6px}
.sample h3{margin-bottom:.8em}
.hits{margin:0;padding:0;list-style:none;counter-reset:rank}
.hits li{counter-increment:rank;position:relative;padding:.35em .6em .35em 2.2em;font-size:.88rem;
 border-left:3px solid transparent}
.hits li::before{content:counter(rank);position:absolute;left:.8em;color:var(--soft)}
.hits .relevant{border-left-color:var(--pass)}
.hits p{color:var(--soft);margin:.15em 0 0;line-height:1.4}
.score{color:var(--soft);font-variant-numeric:tabular-nums}
details{margin:0 0 1em}
summary{cursor:pointer;padding:.3em 0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,155px),1fr));gap:.5em 1.5em;margin:0}
dt{color:var(--soft);font-size:.78rem}
dd{margin:0;font-size:.9rem}
footer{margin-top:64px;padding-top:1em;border-top:1px solid var(--rule);color:var(--soft);font-size:.85rem}
@media (max-width:480px){table{font-size:.79rem}th,td{padding-right:.6em}tbody th{white-space:normal}
 small{font-size:.78em}.badge{font-size:.76rem}}
@media print{body{background:#fff}nav{display:none}section{break-inside:avoid-page}}
"""


def stylesheet() -> str:
    """All rules, with both palettes as custom properties."""
    light, dark = (
        ":root{" + ";".join(f"--{name}:{color}" for name, color in palette.items()) + "}"
        for palette in _PALETTES.values()
    )
    tones = "".join(
        f".tone-{n}{{fill:var(--tone-{n})}}.back-{n}{{background:var(--tone-{n})}}"
        f".band-{n}{{fill:var(--tone-{n});fill-opacity:.16}}"
        f".stroke-{n}{{stroke:var(--tone-{n});stroke-width:2.2;fill:none;stroke-linejoin:round"
        + (f";stroke-dasharray:{_DASHES[n]}" if n in _DASHES else "")
        + "}"
        for n in range(1, NUM_TONES + 1)
    )
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}{_RULES}{tones}"
