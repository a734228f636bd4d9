"""Whether a reply is in another language than English: enough to flag it, no more."""

from __future__ import annotations

import re


_ENGLISH = frozenset(
    """the is we of and to that this it with yes step can are so he she has have for at right correct wrong not they
    there from be was by an as which then his her each how many does do you i answer problem""".split()
)
# Frequent words that are no English words.
_OTHERS = frozenset(
    """der das ist und nicht wir mit ein eine einen schritt richtig falsch ja nein diesem dieser diese sich auch aber
    le les est et nous pas une cette ce oui avec pouvons avons donc dans sur pour qui vrai faux correcte
    el los las es con por que este paso podemos una del se como incorrecto correcto porque entonces
    il gli che non della questo passo possiamo giusto sbagliato perch\u00e9 quindi sono
    os uma n\u00e3o sim passo est\u00e1 isso ent\u00e3o podemos com
    het een niet deze stap juist wel voor van
    s\u00ed \u00e9 \u00e9tape \u00eda tambi\u00e9n""".split()
)
_WORD = re.compile(r"[^\W\d_]+")


def other_language(text: str) -> bool:
    """Whether most letters are of another script, or most function words of another language."""
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return False
    # Greek is left out: it stands for variables.
    foreign = sum(ord(char) > 0x24F and not 0x370 <= ord(char) <= 0x3FF for char in letters)
    if foreign > 0.3 * len(letters):
        return True
    words = [word.lower() for word in _WORD.findall(text)]
    english = sum(word in _ENGLISH for word in words)
    others = sum(word in _OTHERS for word in words)
    return others > english and (others >= 2 or len(words) <= 3)
