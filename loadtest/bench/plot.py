"""Bar charts as SVG, for a page that is read in light and in dark."""

from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP, TOP, GROUP = 760, 90, 18, 4, 52, 14
OWN, OTHER, FLOOR = "#2f81f7", "#8b949e", "#c9a227"
# Of one colour each, in the order of the series.
SHADES = (OWN, OTHER, FLOOR)
STYLE = "<style>text{font:13px sans-serif;fill:#57606a}.title{font-weight:600}@media(prefers-color-scheme:dark){text{fill:#adbac7}}</style>"


def bars(title, note, groups, form):
    """One bar for each value of each group: `groups` are (label, [(name or None, value, colour)]). The longest bar fills the width."""
    longest = max((value for _, series in groups for _, value, _ in series), default=1) or 1
    room = WIDTH - LABEL - 110
    parts, y = [], TOP
    for label, series in groups:
        for index, (name, value, colour) in enumerate(series):
            width = max(value / longest * room, 1)
            if index == 0:
                parts.append(f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
            shown = form(value) + (f" {name}" if name else "")
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + 13}">{escape(shown)}</text>')
            y += BAR + GAP
        y += GROUP if len(series) > 1 else 0
    head = f'<text class="title" x="8" y="20">{escape(title)}</text><text x="8" y="38">{escape(note)}</text>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 6}" width="{WIDTH}" height="{y + 6}">{STYLE}{head}{"".join(parts)}</svg>\n'


def colour(peer):
    return {"nodegate": OWN, "relay": FLOOR, "direct": FLOOR}.get(peer, OTHER)
