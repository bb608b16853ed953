"""Tables that detectors look things up in: regions, codes, countries, words. Each names its source."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PROVINCES: Final = frozenset(
    _words(
        "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 91"
    )
)
"""First two digits of a region (GB/T 2260; 83: residence permits of people from Taiwan; 91: from abroad)."""

DEPARTMENTS: Final = frozenset(
    _words(
        "11 12 13 19 21 29 31 32 33 34 35 39 41 49 51 52 53 54 55 59 61 62 69 71 72 79 81 89 91 92 93 99 "
        "A1 A9 N1 N2 N3 N9 Y1"
    )
)
"""First two characters of a unified social credit code (GB 32100: who registered it, and as what)."""

AREAS: Final = frozenset(
    _words(
        "031 033 034 035 037 039 041 042 043 044 045 046 047 048 051 052 053 054 055 056 057 058 059 062 063 066 069 "
        "070 071 072 073 074 075 076 077 078 079 081 082 083 084 085 087 088 089 090 091 093 094 095 097 099"
    )
)
"""First three digits of the four-digit area codes of China (the ministry's numbering plan)."""

COUNTRIES: Final = frozenset(
    _words(
        "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 "
        "84 86 90 91 92 93 94 95 98"
    )
)
"""Calling codes of one and two digits (ITU-T E.164)."""

REGIONS: Final = frozenset(_words("21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 85 88 96 97 99"))
"""First two digits of the calling codes of three."""

IBAN_SIZES: Final = {
    part[:2]: int(part[2:])
    for part in _words(
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30"
    )
}
"""Length of an IBAN by country (SWIFT's registry)."""

PLACES: Final = _words(
    "北京 天津 上海 重庆 河北 山西 辽宁 吉林 黑龙江 江苏 浙江 安徽 "
    "福建 江西 山东 河南 湖北 湖南 广东 海南 四川 贵州 云南 陕西 "
    "甘肃 青海 台湾 内蒙古 广西 西藏 宁夏 新疆 香港 澳门"
)
"""What the largest part of an address is."""

PLATE_PLACES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使"
"""First character of a licence plate (GA 36)."""

SURNAMES: Final = frozenset(
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏窦章苏潘葛奚范彭郎鲁韦昌马苗凤花方俞任"
    "袁柳酆鲍史唐费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐于时傅皮卞齐康伍余元卜顾孟平黄穆萧尹姚邵湛汪祁毛禹狄米贝明臧计伏成"
    "戴谈宋茅庞熊纪舒屈项祝董梁杜阮蓝闵席季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万支柯管卢莫房裘缪解"
    "应宗丁宣邓洪包诸左石崔吉龚程邢裴陆荣翁荀羊惠曲封储靳焦牧山谷车侯全班仰秋仲伊宫宁仇栾甘厉祖武符刘景詹龙叶司黎乔苍"
    "双闻莘党翟谭贡劳姬申冉雍桑桂牛寿通边燕冀尚农温庄晏柴瞿阎连习容向古易廖终居衡步耿满匡国文寇广东欧利师巩聂关荆游权盖"
    "益桓公岳肖付代闫"
)
"""Of one character: the Hundred Family Surnames, and those that became frequent since."""

COMMON_SURNAMES: Final = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董潘袁蔡蒋余于杜叶程苏魏吕丁任卢姚沈钟姜崔谭陆"
    "范汪廖石金贾韦夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤康易乔赖文"
)
"""The hundred most frequent (Ministry of Public Security, report on names, 2020)."""

COMPOUND_SURNAMES: Final = frozenset(
    _words("欧阳 司马 上官 诸葛 皇甫 尉迟 公孙 慕容 令狐 东方 西门 南宫 夏侯 司徒 司空 长孙 宇文 轩辕 端木 独孤")
)

NOT_NAMES: Final = frozenset(
    _words(
        "任何 公司 高级 全体 安全 华为 金融 常务 明白 何时 时候 方案 全国 国家 广东 东方 司法 管理 文化 通过 平时 "
        "项目 成为 向您 于是 尚未 连接 应该 解决 支持 计算 成立 关于 强制 连续 包括 房产 车间 路由 石油 "
        "钟表 江苏 宁夏 山东 山西 云南 河南 温度 容器 从事 农业 "
        "双方 花园 公共 党委 党支 文艺 小学 大学 中学 高中 边防 主治 "
        "家庭 值班 全科 住院 主管 单位 部门 产品 客户 市场 销售 财务 技术 人事 行政 区域 大堂 成功 华人 "
        "程序 常见 时常 金牌 白班"
    )
)
"""Words that begin with the character of a surname and stand before titles."""

NOT_ENGLISH_NAMES: Final = frozenset(
    _words(
        "The This That Please Of And For To In On At Is "
        "Are Was Phone Email Tel Address Server File Host Type Value None "
        "Null True False Who Your Our My Emeritus Excel I "
        "He She We They It If When ID SSN "
        "Customer Dear Mr Mrs Ms Miss Dr Prof Professor Sir Madam"
    )
)
"""Words with a capital that stand behind labels."""
