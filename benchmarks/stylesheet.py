"""The page's CSS: one column on a phone, cards on a desktop, black on white on paper."""

PAGE = """*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:66rem;margin:0 auto;padding:1.5rem 1rem 3rem;display:grid;gap:1rem}
main>*{min-width:0}
h1{font-size:clamp(1.4rem,1.1rem + 1.6vw,2rem);line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1rem;margin:0 0 .75rem}
header p{margin:0;color:var(--muted);overflow-wrap:anywhere}
section{background:var(--surface);border:1px solid var(--line);border-radius:12px;padding:1rem 1.1rem}
.warnings{background:var(--warn-soft);border-color:var(--warn)}
.warnings h2{color:var(--warn)}
.warnings ul{margin:0;padding-left:1.2rem}
.gates{list-style:none;margin:0;padding:0;display:grid;gap:.4rem}
.gates li{display:grid;grid-template-columns:5rem 1fr auto;gap:.75rem;padding:.45rem .75rem;border-radius:8px}
.gates b{font-weight:650}
.gates span:last-child{font-variant-numeric:tabular-nums;text-align:right}
.gates small{color:var(--muted);display:inline-block}
.good{background:var(--good-soft)}.good b{color:var(--good)}
.bad{background:var(--bad-soft)}.bad b{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem;padding:1.1rem}
.tiles div{display:grid;align-content:start}
.tiles b{font-size:1.6rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.tiles span{color:var(--muted);font-size:.875rem;line-height:1.35}
figure{margin:0}
figure svg{display:block;width:100%;max-width:33rem;height:auto;margin:0 auto}
.scroll{overflow-x:auto;margin:0 -1.1rem;padding:0 1.1rem}
table{border-collapse:collapse;width:100%;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:500;vertical-align:bottom;white-space:normal}
tbody tr:last-child td{border-bottom:0}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--surface);padding-left:0}
td:first-child{font-weight:600}
.texts td:nth-child(-n+3),.texts th:nth-child(-n+3){text-align:left}
dl{margin:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.6rem 1.25rem}
.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}
dt{color:var(--muted);font-size:.8125rem}
dd{margin:0;overflow-wrap:anywhere}
pre{margin:0;padding:.75rem;background:var(--soft);border-radius:8px;overflow-x:auto;font-size:.875rem;line-height:1.5}
footer{color:var(--muted);font-size:.8125rem;text-align:center}
@media (max-width:34rem){
main{padding:1rem .5rem 2rem;gap:.75rem}
section{padding:.85rem .75rem}
.scroll{margin:0 -.75rem;padding:0 .75rem}
figure{margin:0 -.25rem}
header{padding:0 .25rem}
.gates li{grid-template-columns:auto 1fr;gap:.1rem .75rem}
.gates span:last-child{grid-column:2;text-align:left}
.tiles{grid-template-columns:1fr 1fr}
}
@media print{
body{background:#fff;font-size:10pt}
main{max-width:none;padding:0;gap:.5rem}
section{break-inside:avoid;border-radius:0;border-width:1px 0 0}
.scroll{overflow:visible}
table{font-size:7.5pt}
th,td{padding:.2rem .3rem}
pre{white-space:pre-wrap}
figure svg{max-width:30rem}
*{print-color-adjust:exact}
}
"""
