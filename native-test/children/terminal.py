"""Runs a command at a terminal of its own, types answers at its questions, and says what the terminal showed.

    python3 terminal.py '{"argv": [...], "answers": [["question", "what is typed"], ...], "signal": null}'
      ->  {"status": 0, "shown": "...", "early": true, "echo": [false, ...]}

Each answer is typed when its question has been shown; `echo` says whether the terminal would have echoed at that moment. What begins
with "+" is typed at once with the answer before it, ahead of its question: what is typed ahead must belong to nobody.
"""
import json
import os
import pty
import select
import sys
import termios
import time

given = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execvp(given["argv"][0], given["argv"])

shown = b""
echo = []
answers = list(given["answers"])
seen = 0
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    ready, _, _ = select.select([terminal], [], [], 0.2)
    if ready:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    if answers and answers[0][0].encode() in shown[seen:]:
        question, typed = answers.pop(0)
        seen = shown.index(question.encode(), seen) + len(question)
        # The question is shown just before the terminal is made silent: give it a moment.
        for _ in range(50):
            if not termios.tcgetattr(terminal)[3] & termios.ECHO:
                break
            time.sleep(0.02)
        echo.append(bool(termios.tcgetattr(terminal)[3] & termios.ECHO))
        os.write(terminal, typed.encode())

_, status = os.waitpid(child, 0)
print(json.dumps({"status": os.waitstatus_to_exitcode(status), "shown": shown.decode("utf8", "replace"), "echo": echo, "left": len(answers)}))
