"""Words that values and templates are made of."""

from __future__ import annotations

from typing import Final

# A part of GB/T 2260.
COUNTIES: Final = (
    "110101 110102 110105 110106 110107 110108 110109 110111 110112 110113 110114 120101 120102 120103 120104 130102 130104 130203 130302 "
    "140105 140106 150102 210102 210103 210202 220102 230102 230103 310101 310104 310105 310106 310107 310109 310110 310112 310113 310114 310115 "
    "320102 320104 320105 320106 320114 320205 320505 320506 320508 330102 330106 330108 330203 340102 340103 340104 350102 350103 350203 350206 "
    "360102 360103 370102 370103 370202 370203 370211 410102 410103 410105 410302 420102 420103 420104 420106 420111 430102 430103 430104 430105 "
    "440103 440104 440105 440106 440111 440303 440304 440305 440306 440307 440402 450102 450103 460105 460106 500101 500103 500105 500106 500107 "
    "500108 510104 510105 510106 510107 510108 520102 520103 530102 530103 540102 610102 610103 610104 610113 620102 620103 630102 630103 640104 650102 650103"
).split()
# Area code and digits of a subscriber there.
AREA_CODES: Final = (
    ("010", 8), ("020", 8), ("021", 8), ("022", 8), ("023", 8), ("024", 8), ("025", 8), ("027", 8), ("028", 8), ("029", 8), ("0755", 8), ("0571", 8),
    ("0512", 8), ("0532", 8), ("0731", 8), ("0371", 8), ("0551", 8), ("0592", 7), ("0471", 7), ("0991", 7), ("0898", 8), ("0771", 7), ("0851", 8), ("0991", 7),
    ("0311", 8), ("0351", 7), ("0931", 7), ("0757", 8), ("0769", 8), ("0574", 8),
)  # fmt: skip
PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
SURNAMES_ZH: Final = (
    "王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 马 朱 胡 郭 何 高 林 罗 郑 梁 谢 宋 唐 许 韩 冯 邓 曹 彭 曾 肖 田 董 袁 潘 于 蒋 蔡 余 杜 叶 程 苏 魏 吕 丁 任 沈 "
    "姚 卢 姜 崔 钟 谭 陆 汪 范 金 石 廖 贾 夏 韦 付 方 白 邹 孟 熊 秦 邱 江 尹 薛 闫 段 雷 侯 龙 史 陶 黎 贺 顾 毛 郝 龚 邵 万 钱 严 欧阳 司马 上官 诸葛"
).split()
GIVEN_ZH: Final = (
    "伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 娟 涛 明 超 秀英 秀兰 桂英 建国 建华 志强 志明 文静 雪梅 晓东 晓明 国庆 海燕 玉兰 玉梅 春梅 子轩 子涵 梓涵 浩然 雨桐 "
    "欣怡 诗涵 宇航 嘉豪 俊杰 思远 天佑 若曦 佳怡 一诺 泽宇 博文 丹丹 婷婷 红霞 立新 德华 永康 长江 金凤 少华 振华 立群 鹏飞 瑞雪"
).split()
PINYIN: Final = (
    "zhang wang li liu chen yang zhao huang zhou wu xu sun wei fang min jing tao lei jie hao yu xin mei".split()
)
GIVEN_EN: Final = (
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Susan Richard Jessica Joseph Sarah Thomas Karen Daniel Nancy Matthew Lisa "
    "Anthony Margaret Mark Sandra Paul Ashley Steven Emily Andrew Donna Kenneth Michelle George Laura Kevin Rachel Brian Olivia Priya Ahmed Yuki Ingrid Carlos"
).split()
SURNAMES_EN: Final = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Thompson "
    "White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Patel"
).split()
DOMAINS: Final = (
    "example.com example.com.cn bank-of-tests.com.cn qq.com 163.com 126.com gmail.com outlook.com hospital.org.cn factory.cn sina.com foxmail.com yahoo.co.uk "
    "uni.edu.cn mail.gov.cn acme.io startup.dev firm.co test-bank.eu clinic.org vip.sina.com"
).split()
CITIES_ZH: Final = (
    "北京市朝阳区 北京市海淀区 上海市浦东新区 上海市徐汇区 广东省深圳市南山区 广东省广州市天河区 浙江省杭州市西湖区 江苏省南京市鼓楼区 江苏省苏州市姑苏区 四川省成都市武侯区 "
    "湖北省武汉市洪山区 陕西省西安市雁塔区 山东省青岛市市南区 天津市和平区 重庆市渝中区 湖南省长沙市岳麓区 福建省厦门市思明区 辽宁省大连市中山区 河南省郑州市金水区 云南省昆明市五华区 "
    "内蒙古自治区呼和浩特市新城区 广西壮族自治区南宁市青秀区 深圳市福田区 杭州市余杭区 成都市锦江区"
).split()
STREETS_ZH: Final = "建国路 中山路 人民路 解放大道 科技园南路 长江路 和平街 文三路 学院路 滨江东路 世纪大道 光谷大道 天府大道 友谊路 南京西路 新华街 迎宾路 朝阳北路 幸福巷 健康胡同".split()
YARDS_ZH: Final = "阳光花园 绿城小区 万科城市花园 龙湖天街 幸福里 碧桂园 金地国际 保利香槟 锦绣家园 世贸大厦 创业大厦 翠苑一区".split()
CITIES_EN: Final = [
    "Springfield",
    "Boston",
    "Seattle",
    "Austin",
    "Denver",
    "San Jose",
    "New York",
    "Portland",
    "Columbus",
    "Chicago",
    "Los Angeles",
]
STATES: Final = "CA NY TX WA MA IL CO OR OH FL GA AZ".split()
STREETS_EN: Final = [
    "Main Street", "Oak Avenue", "Maple Drive", "Elm Street", "Park Road", "Washington Blvd", "Lake View Lane", "Sunset Boulevard", "2nd Avenue", "Hill Court",
    "Cedar Ln", "Pine St", "Market Street", "River Rd",
]  # fmt: skip
TITLES_ZH: Final = (
    "先生 女士 经理 主任 医生 总监 教授 老师 工程师 护士 小姐 同志 总经理 主管 律师 处长 科长 大夫 总".split()
)
TITLES_EN: Final = ["Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "Mr", "Mrs", "Dr", "Ms"]
