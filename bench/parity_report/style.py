"""The report's style sheet: light and dark by the reader's system, one column on a phone."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--back:#f5f5f2;--card:#fff;--text:#1c2024;--soft:#667078;
--rule:#dfe1dc;
--blue:#2f6fde;--good:#16794a;--goodback:#dff3e7;--bad:#b3261e;--badback:#fbe3e1;--amber:#c77700}
@media(prefers-color-scheme:dark){:root{--back:#121416;--card:#1b1e22;--text:#e8eaec;
--soft:#98a2ab;
--rule:#30353b;--blue:#6f9ff8;--good:#5fd39a;--goodback:#163527;--bad:#ff8a80;--badback:#43201d;
--amber:#f0b04a}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:28px 18px 60px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:40px 0 10px}h3{font-size:15px;margin:0}
p{margin:4px 0}.soft{color:var(--soft)}small{font-size:12px}
.hero{display:flex;flex-wrap:wrap;gap:10px 20px;align-items:center;margin:18px 0 4px;
padding:16px 20px;
border-radius:12px;background:var(--goodback)}.hero.bad{background:var(--badback)}
.hero b{font-size:20px;color:var(--good)}.hero.bad b{color:var(--bad)}
.card{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:14px 16px;
margin:12px 0}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:12px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td:first-child small{margin-left:0}td small{min-width:88px}
th,td{padding:8px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--soft);font-size:12px}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--card)}
td small{display:block;color:var(--soft);white-space:normal;max-width:210px;margin-left:auto}
.pill{display:inline-block;padding:1px 9px;border-radius:99px;font-size:12px;font-weight:600}
.good{color:var(--good);background:var(--goodback)}.bad{color:var(--bad);
background:var(--badback)}
.plain{color:var(--soft);background:var(--rule)}
td.pass{background:none}.worse{color:var(--bad)}.better{color:var(--good)}
.meter{display:block;height:4px;border-radius:2px;background:var(--rule);margin:4px 0 0 auto;
max-width:120px;
min-width:64px}
.meter i{display:block;height:4px;border-radius:2px;background:var(--good)}
.meter.over i{background:var(--bad)}
.case header{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;margin-bottom:10px}
.case header span{font-variant-numeric:tabular-nums}
.panels{display:grid;grid-template-columns:repeat(4,1fr);gap:10px}
figure{margin:0}figcaption{font-size:12px;color:var(--soft);margin-bottom:3px}
img{display:block;width:100%;border-radius:6px;background:#000}img.near{image-rendering:pixelated;
margin-top:6px}
.legend{height:12px;border-radius:6px}.ticks{display:flex;justify-content:space-between;
font-size:12px;
color:var(--soft);max-width:420px}.legend{max-width:420px}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:12px}
.two .card{margin:0}
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
.grid{stroke:var(--rule);stroke-width:1}.below{fill:var(--blue)}.near{fill:var(--amber)}
.far{fill:var(--bad)}
line.mark{stroke:var(--text);stroke-width:1.3}svg text.mark{fill:var(--text)}
line.limit{stroke:var(--bad);stroke-width:1.3;stroke-dasharray:3 3}svg text.limit{fill:var(--bad)}
details{margin:12px 0}summary{cursor:pointer;font-weight:600}
code{font:12px ui-monospace,monospace;overflow-wrap:anywhere}ul{padding-left:20px;margin:6px 0}
@media(max-width:640px){.panels{grid-template-columns:repeat(2,1fr)}main{padding:18px 12px 40px}
th,td{padding:7px 9px}}
"""
