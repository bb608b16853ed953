# ruff: noqa: E501 (word lists stay on one line)
"""Words that a question may have or lack, because they repeat what their neighbour says (`the nginx service`)."""

from __future__ import annotations

import dataclasses

from ashore.cache.semantic.model import Word
from ashore.cache.semantic.wordset import words_of

_LIGHT = words_of(
    "service system software application app program tool language editor document file format "
    "company process level term name city website type option command do thing people employee "
    "user own user's database platform feature 系统 软件 语言 服务 公司 文档 文件 编辑器 数据 功能 平台 进行 情况 名字 名称 城市 "
    "费用 人 人员 员工 标准 做 来 办 更 很 用 材料 机 支持 个人 时间 次 条 座 数量 数 命令 工具 应用 内容 信息 提 带 发生 出现 遇到 负责 是"
)


def with_light(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Mark the light words."""
    return tuple(dataclasses.replace(w, light=True) if w.text in _LIGHT else w for w in words)
