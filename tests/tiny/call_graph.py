"""How deep a function's stack can get, out of the call graphs that gcc writes (-fcallgraph-info=su)."""

import re

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([a-z,]+)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
INDIRECT = "__indirect_call"
ARITHMETIC = "__aeabi_"  # gcc's own, of numbers that the processor does not know: there is no graph of it
ARITHMETIC_BYTES = 64  # what it saves of registers, and some


class CallGraph:
    """Of a folder's object files. `kernels`: a pattern of what may stand behind a pointer to a function."""

    def __init__(self, folder, kernels):
        self.frames, self.kinds, self.calls = {}, {}, {}
        for file in sorted(folder.rglob("*.ci")):
            text = file.read_text()
            for function, frame, kind in NODE.findall(text):
                self.frames[function], self.kinds[function] = int(frame), kind
            for caller, callee in EDGE.findall(text):
                self.calls.setdefault(caller, set()).add(callee)
        self.calls[INDIRECT] = {function for function in self.frames if re.fullmatch(kernels, function)}
        assert self.frames and self.calls[INDIRECT], folder

    def depth(self, function):
        """Bytes, without those of interrupts. A recursion is an error, since it would have no bound."""
        return self._deepest(function, ())

    def _deepest(self, function, callers):
        assert function not in callers, f"{function} calls itself: {callers}"
        if function.startswith(ARITHMETIC):
            return ARITHMETIC_BYTES
        assert function in self.frames or function == INDIRECT, f"nothing is known of {function}"
        below = (self._deepest(callee, (*callers, function)) for callee in self.calls.get(function, ()))
        return self.frames.get(function, 0) + max(below, default=0)
