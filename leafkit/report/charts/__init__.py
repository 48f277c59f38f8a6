"""Charts as inline SVG: pure functions from numbers with their intervals to markup.

No script, nothing loaded. Colors come from the classes ``tone-1`` ... ``tone-8`` of the page's
style sheet and follow its dark mode; series differ in dash and marker as well. A chart is drawn
440 units wide, which a phone shows nearly 1:1; text is in the same units and scales with it.
"""
