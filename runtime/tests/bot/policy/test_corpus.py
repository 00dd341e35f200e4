"""False hits of the sample lists in ordinary sentences, generated from words of daily and technical life."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import yaml

from clawd_runtime.bot.policy.file import Policy, compiled
from clawd_runtime.bot.policy.stage import WordStage

SAMPLES = Path(__file__).resolve().parents[4] / "inventory/examples/policy"
SENTENCES = 5000
MOST_FALSE = SENTENCES // 1000

WHO = ("我们", "她", "王老师", "项目组", "邻居家的孩子", "客服", "运维工程师", "小李和小张", "公司的财务部")
WHEN = ("昨天", "下周一早上", "每天六点", "春节之前", "2026年3月4日", "刚才", "在会议结束后", "这个季度")
DOES = (
    "整理了",
    "讨论了",
    "买了",
    "忘记带",
    "正在部署",
    "重新设计",
    "检查",
    "翻译完",
    "想了解",
    "给大家介绍",
    "测试了",
    "归还了",
)
WHAT = (
    "路口交通信号灯的方案",
    "一夜之间长高的竹笋",
    "红色、情绪和记忆的研究",
    "新服务器的日志",
    "发票和合同",
    "六月四号的机票",
    "妈妈做的蛋糕",
    "三千米长跑的成绩",
    "老虎机器人模型",
    "彩色铅笔",
    "大麻袋里的土豆",
    "贷款合同的第七条",
    "信用卡账单",
    "股票市场的历史",
    "药品说明书",
    "枪炮与钢铁这本书",
    "颜色 | 情况对照表",
    "数据库迁移脚本",
    "一份关于毒蘑菇的科普文章",
    "澳门的旅行计划",
    "银行卡和身份证",
    "开发环境的密钥轮换",
    "色彩搭配，情节安排",
    "百家姓和千字文",
    "代码审查意见",
    "外围设备清单",
    "接口交互的说明",
    "进出口交易的数据",
    "十字路口交警的工作",
    "窗口交接的流程",
    "港口交货的时间",
)
ENDS = ("。", "，然后发给大家。", "，结果很好！", "，但是时间不够。", "吗？", "；请尽快回复。", "\n\n", "……")
SUBJECTS = (
    "The team",
    "My sister",
    "Every user of the class",
    "A retarded pendulum",
    "Our bass player",
    "The assistant",
    "Scunthorpe council",
    "An analyst",
    "The document",
    "The council",
    "The cocktail bar",
    "Jack Sussex",
)
VERBS = (
    "assesses",
    "shipped",
    "passes",
    "reads",
    "reshapes",
    "compiles",
    "discusses",
    "has pushed",
    "rewrote",
    "measures",
    "classified",
)
OBJECTS = (
    "the java build",
    "a brass ring",
    "the assumption",
    "all analytics",
    "as soon as possible the report",
    "the shitake recipe",
    "the cockpit door",
    "an ad-hoc query",
    "the pen is on the table",
    "slot number four of the machine room",
    "a casino royale review",
    "the bitcoin paper",
    "the credit card form",
    "the loan calculator",
    "a bomb disposal manual",
    "the password policy",
    "the document title",
    "Dickens",
    "the therapist",
    "the mass at 10 a.m.",
    "the push it to the limit song",
    "the sexton's house",
)
TAILS = (".", ", as usual.", " in 2026!", "?", "; see page 64.", " - done", "\n", " (again).")


def sentences() -> list[str]:
    chinese = ["".join(parts) for parts in product(WHO, WHEN, DOES, WHAT, ENDS)]
    english = [f"{a} {b} {c}{d}" for a, b, c, d in product(SUBJECTS, VERBS, OBJECTS, TAILS)]
    chance = random.Random(7)
    return [*chance.sample(chinese, SENTENCES // 2), *chance.sample(english, SENTENCES // 2)]


def sample_policy() -> Policy:
    rules = yaml.safe_load((SAMPLES / "rules.yml").read_text("utf-8"))
    for group in rules["words"]:
        lines = (SAMPLES / group.pop("file")).read_text("utf-8").splitlines()
        group["words"] = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return compiled(json.dumps(rules).encode(), {})


def found_in(policy: Policy, text: str) -> list[str]:
    stage = WordStage(policy.words)
    stage.feed(text)
    stage.finish()
    return [hit.entry for hit in stage.hits]


def test_hardly_any_ordinary_sentence_is_changed() -> None:
    policy, texts = sample_policy(), sentences()
    assert len(set(texts)) == SENTENCES
    false = [(text, found) for text in texts if (found := found_in(policy, text))]
    assert len(false) < MOST_FALSE, false[:10]


def test_every_word_of_the_sample_lists_is_found_within_a_sentence() -> None:
    policy = sample_policy()
    words = [word for group in policy.words.groups for word in group.words]
    assert len(words) > 100
    assert [word for word in words if not found_in(policy, f"他说 {word} 之后")] == []
