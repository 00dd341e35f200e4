"""Questions with one right answer: beginnings of sentences that the model continues, in English and Chinese.

They are few and easy: they show that a model is broken, not which of two good ones is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuizQuestion:
    """The beginning of a sentence and four ends, the first of which is right."""

    text: str
    answers: tuple[str, ...]


def _questions(lines: str, space: str) -> tuple[QuizQuestion, ...]:
    """Return the questions of lines `beginning: right, wrong, wrong, wrong`."""
    found = []
    for line in lines.strip().splitlines():
        text, _, answers = line.strip().partition(": ")
        found.append(QuizQuestion(text, tuple(space + answer for answer in answers.split(", "))))
    return tuple(found)


_ENGLISH = """
The capital of France is: Paris, Rome, Madrid, Berlin
The capital of Japan is: Tokyo, Beijing, Seoul, Bangkok
The capital of Italy is: Rome, Paris, Vienna, Athens
The capital of Egypt is: Cairo, Nairobi, Baghdad, Tehran
The largest ocean on Earth is the: Pacific, Atlantic, Indian, Arctic
The planet closest to the Sun is: Mercury, Venus, Jupiter, Saturn
The Earth moves around the: Sun, Moon, stars, clouds
Water freezes at zero degrees: Celsius, Monday, kilograms, metres
Water is made of hydrogen and: oxygen, iron, gold, salt
The opposite of hot is: cold, warm, dry, loud
The opposite of big is: small, huge, tall, heavy
The opposite of day is: night, week, sun, hour
A week has seven: days, hours, months, years
A year has twelve: months, days, weeks, hours
An hour has sixty: minutes, days, seconds of arc, years
Two plus two equals: four, five, seven, nine
Ten minus three equals: seven, four, two, one
Three times three equals: nine, six, twelve, five
A triangle has three: sides, wheels, legs, wings
Bees make: honey, milk, bread, wool
Cows give us: milk, honey, silk, eggs
Hens lay: eggs, milk, honey, grass
Fish live in the: water, sky, desert, fire
Birds fly with their: wings, ears, tails, teeth
We see with our: eyes, ears, hands, feet
We hear with our: ears, eyes, knees, hair
A doctor works in a: hospital, bakery, garage, farm
A pilot flies a: plane, boat, train, horse
A baker makes: bread, shoes, cars, music
A carpenter works with: wood, water, numbers, horses
The colour of grass is: green, blue, purple, orange
The colour of snow is: white, black, red, green
On a clear day the sky is: blue, brown, green, purple
Ice is frozen: water, sand, air, wood
Romeo and Juliet was written by William: Shakespeare, Washington, Newton, Einstein
The theory of relativity was developed by Albert: Einstein, Shakespeare, Columbus, Mozart
She was tired, so she went to: bed, fire, money, noon
It was raining, so he took his: umbrella, piano, salad, ladder
He was hungry, so he ate some: soup, chairs, stones, paper
To open the locked door she needed the: key, spoon, cloud, song
"""

_CHINESE = """
中国的首都是: 北京, 东京, 巴黎, 伦敦
法国的首都是: 巴黎, 北京, 罗马, 柏林
日本的首都是: 东京, 首尔, 北京, 曼谷
一年有十二个: 月, 小时, 世纪, 分钟
一个星期有七: 天, 年, 月, 分
地球围绕着: 太阳, 月亮, 云彩, 大海
天空的颜色是: 蓝色, 绿色, 紫色, 棕色
雪的颜色是: 白色, 黑色, 红色, 绿色
二加二等于: 四, 七, 九, 一
十减三等于: 七, 二, 五, 一
冰是由: 水, 木头, 沙子, 空气
蜜蜂酿造: 蜂蜜, 牛奶, 面包, 丝绸
鱼生活在: 水里, 天上, 树上, 火里
我们用眼睛: 看, 听, 闻, 走
我们用耳朵: 听, 看, 吃, 写
医生在: 医院工作, 面包店工作, 农场工作, 车库工作
飞行员驾驶: 飞机, 火车, 自行车, 马车
热的反义词是: 冷, 大, 快, 红
白天的反义词是: 黑夜, 早饭, 星期, 太阳
下雨了，他拿起了: 雨伞, 钢琴, 梯子, 石头
"""

QUESTIONS: Mapping[str, tuple[QuizQuestion, ...]] = {
    "en": _questions(_ENGLISH, " "),
    "zh": _questions(_CHINESE, ""),
}
"""The questions of each language."""
